//! Seeded bugs: rules taken out one at a time, so that the simulator can prove
//! that it would notice.
//!
//! Without the feature `mutations` nothing can switch one on and every hook
//! compiles to nothing.

/// One seeded bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Mutation {
    /// One record per check, overwritten by whoever saw it, concurrent ones by
    /// priority: not associative.
    TalkMerge,
    /// The parts of a reply are applied as they come.
    MergePerChunk,
    /// The claim is raised by the first part of a reply.
    ClaimPerChunk,
    /// Concurrent slots are judged by the reader's view of priorities, not by
    /// the stored ones.
    ViewPriority,
    /// A release is written one term higher and so beats what came after.
    ReleaseWinsTerm,
    /// A slot of an earlier life or of a dead member counts as evidence.
    StaleSlotIsEvidence,
    /// Released slots are collected without telling anybody.
    CollectWithoutTrim,
    /// A node that meets a floor or epoch above its own goes on as it was.
    EpochBelowFloorIgnored,
    /// A suspect never refutes.
    NoRefutation,
    /// The nack goes out after the asker's window has closed.
    LateNack,
    /// Suspicions that ran out while this node itself was stalled fire.
    SuspicionAfterStall,
    /// A prober goes on although evidence ranks above it.
    TakeoverNeverStops,
    /// A pull that meets a winner of another writes over it.
    WriteOnPull,
    /// Without evidence every rank starts once its patience has passed.
    EveryRankProbesWithoutEvidence,
    /// Backups and shadows probe as often as they like.
    BackupWithoutBudget,
    /// Who has not said that it configures a check counts as not configuring
    /// it.
    SilenceIsANo,
    /// A word that says that nobody can measure lets every rank start.
    WeakWordOpensTheDoor,
    /// Nothing bounds the datagrams that a node sends.
    UnboundedDatagrams,
    /// A pull is given up after 25 ms, and its answer is thrown away when it
    /// comes later.
    LateAnswersDropped,
    /// A turn works off whatever lies in the sockets before it looks at timers,
    /// and bulk before acks. It is the shell's bug: only the simulator's turn
    /// can have it.
    SocketsFirst,
    /// Once new Downs are held back they are for ever.
    BrakeNeverLetsGo,
    /// The brake holds where a third of the origins really dies.
    BrakeHidesAThird,
    /// Downs are held by nobody, however much fails.
    NoBrake,
    /// A node that starts again knows nothing of operators' decisions.
    OverrideLostAtRestart,
    /// Decisions that ended are forgotten.
    OverrideResurrected,
    /// Of two decisions at once each node goes by the one that it heard first.
    OverridesDiverge,
    /// A name may have any number of words on checks that nobody configures.
    ForeignWithoutShare,
    /// Terms are believed however far ahead of POP time they are.
    AnyTerm,
    /// The word of the dead counts before the measurement of the living.
    DeadOutrankTheLiving,
    /// Epochs are believed however far ahead of POP time they are.
    AnyEpoch,
    /// Who was put out of the POP goes on being heard.
    EvictedIsHeard,
}

impl Mutation {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::TalkMerge,
        Self::MergePerChunk,
        Self::ClaimPerChunk,
        Self::ViewPriority,
        Self::ReleaseWinsTerm,
        Self::StaleSlotIsEvidence,
        Self::CollectWithoutTrim,
        Self::EpochBelowFloorIgnored,
        Self::NoRefutation,
        Self::LateNack,
        Self::SuspicionAfterStall,
        Self::TakeoverNeverStops,
        Self::WriteOnPull,
        Self::EveryRankProbesWithoutEvidence,
        Self::BackupWithoutBudget,
        Self::SilenceIsANo,
        Self::WeakWordOpensTheDoor,
        Self::UnboundedDatagrams,
        Self::LateAnswersDropped,
        Self::SocketsFirst,
        Self::BrakeNeverLetsGo,
        Self::BrakeHidesAThird,
        Self::NoBrake,
        Self::OverrideLostAtRestart,
        Self::OverrideResurrected,
        Self::OverridesDiverge,
        Self::ForeignWithoutShare,
        Self::AnyTerm,
        Self::DeadOutrankTheLiving,
        Self::AnyEpoch,
        Self::EvictedIsHeard,
    ];

    /// The name for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TalkMerge => "talk-merge",
            Self::MergePerChunk => "merge-per-chunk",
            Self::ClaimPerChunk => "claim-per-chunk",
            Self::ViewPriority => "view-priority",
            Self::ReleaseWinsTerm => "release-wins-term",
            Self::StaleSlotIsEvidence => "stale-slot-is-evidence",
            Self::CollectWithoutTrim => "collect-without-trim",
            Self::EpochBelowFloorIgnored => "epoch-below-floor-ignored",
            Self::NoRefutation => "no-refutation",
            Self::LateNack => "late-nack",
            Self::SuspicionAfterStall => "suspicion-after-stall",
            Self::TakeoverNeverStops => "takeover-never-stops",
            Self::WriteOnPull => "write-on-pull",
            Self::EveryRankProbesWithoutEvidence => "every-rank-probes-without-evidence",
            Self::BackupWithoutBudget => "backup-without-budget",
            Self::SilenceIsANo => "silence-is-a-no",
            Self::WeakWordOpensTheDoor => "weak-word-opens-the-door",
            Self::UnboundedDatagrams => "unbounded-datagrams",
            Self::LateAnswersDropped => "late-answers-dropped",
            Self::BrakeHidesAThird => "brake-hides-a-third",
            Self::NoBrake => "no-brake",
            Self::BrakeNeverLetsGo => "brake-never-lets-go",
            Self::SocketsFirst => "sockets-first",
            Self::OverrideLostAtRestart => "override-lost-at-restart",
            Self::OverrideResurrected => "override-resurrected",
            Self::OverridesDiverge => "overrides-diverge",
            Self::ForeignWithoutShare => "foreign-without-share",
            Self::AnyTerm => "any-term",
            Self::DeadOutrankTheLiving => "dead-outrank-the-living",
            Self::AnyEpoch => "any-epoch",
            Self::EvictedIsHeard => "evicted-is-heard",
        }
    }
}

/// The seeded bugs of one node: none, unless the feature is compiled in and
/// somebody asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutations {
    #[cfg(feature = "mutations")]
    bits: u64,
}

impl Mutations {
    /// No bug.
    pub const NONE: Self = Self {
        #[cfg(feature = "mutations")]
        bits: 0,
    };

    /// Exactly this bug.
    #[cfg(feature = "mutations")]
    #[must_use]
    pub const fn only(mutation: Mutation) -> Self {
        Self {
            bits: 1 << mutation as u8,
        }
    }

    /// Is this bug switched on?
    #[cfg(feature = "mutations")]
    #[must_use]
    pub const fn on(self, mutation: Mutation) -> bool {
        self.bits & (1 << mutation as u8) != 0
    }

    /// Is this bug switched on? Never, in a build without the feature.
    #[cfg(not(feature = "mutations"))]
    #[inline(always)]
    #[must_use]
    pub const fn on(self, mutation: Mutation) -> bool {
        let _ = mutation;
        false
    }
}
