//! Places for probes, and who has one next.
//!
//! A place is a slot of the engine. Tenants share them by dynamic thresholds
//! (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory
//! packet switches", 1998): a tenant may take one while it holds less than a
//! multiple of those that are free. Greedy tenants so end at equal parts
//! (max-min), modest ones have what they ask for, and some places are always
//! free for who comes next. Nothing that was given is taken away.
//!
//! Within a tenant checks whose last probe was slow have a smaller multiple
//! than the others: a mass of origins that do not answer leaves places for
//! those that do. Destinations have their turns, whatever their checks.

use core::net::IpAddr;
use std::collections::{HashMap, VecDeque};

use crate::limits::{PARKED_SHARE, PLACES_SHARE, PLACES_SHARE_SLOW};
use crate::outcome::Outcome;
use crate::sickness;
use crate::tenant::Tenant;

/// Who holds places, and who waits for one.
#[derive(Debug, Default)]
pub(super) struct Places {
    tenants: Vec<Party>,
    free_tenants: Vec<u32>,
    by_tenant: HashMap<Tenant, u32>,
    destinations: Vec<Destination>,
    free_destinations: Vec<u32>,
    by_destination: HashMap<(u32, IpAddr), u32>,
    /// Tenants with a check that waits, in turn.
    turns: VecDeque<u32>,
    waiting: usize,
}

/// One tenant.
#[derive(Debug)]
struct Party {
    tenant: Tenant,
    destinations: u32,
    /// Places that it holds, parked connections among them.
    held: u32,
    parked: u32,
    listed: bool,
    /// Destinations that wait, in turn: those with quick checks, and with slow.
    turns: [VecDeque<u32>; 2],
    /// Outcomes since the last look, and those that failed on our side.
    outcomes: u32,
    ours: u32,
}

/// One address of one tenant.
#[derive(Debug)]
struct Destination {
    party: u32,
    addr: IpAddr,
    checks: u32,
    /// Checks that wait, quick ones and slow ones.
    waiting: [VecDeque<u32>; 2],
}

impl Places {
    /// A check of this tenant begins to be probed at this address. Gives the
    /// destination that it belongs to from now on.
    pub(super) fn enroll(&mut self, tenant: Tenant, addr: IpAddr) -> u32 {
        let party = match self.by_tenant.get(&tenant) {
            Some(&party) => party,
            None => {
                let party = put(
                    &mut self.tenants,
                    &mut self.free_tenants,
                    Party::new(tenant),
                );
                self.by_tenant.insert(tenant, party);
                party
            }
        };
        let key = (party, addr);
        let destination = match self.by_destination.get(&key) {
            Some(&destination) => destination,
            None => {
                let new = Destination {
                    party,
                    addr,
                    checks: 0,
                    waiting: Default::default(),
                };
                let destination = put(&mut self.destinations, &mut self.free_destinations, new);
                self.by_destination.insert(key, destination);
                self.tenants[party as usize].destinations += 1;
                destination
            }
        };
        self.destinations[destination as usize].checks += 1;
        destination
    }

    /// The check is gone: it holds no place and waits for none.
    pub(super) fn leave(&mut self, destination: u32) {
        let gone = &mut self.destinations[destination as usize];
        gone.checks -= 1;
        if gone.checks > 0 {
            return;
        }
        let (party, addr) = (gone.party, gone.addr);
        gone.waiting = Default::default();
        self.by_destination.remove(&(party, addr));
        self.free_destinations.push(destination);
        let owner = &mut self.tenants[party as usize];
        owner.destinations -= 1;
        // Who stands in the line of turns still leaves when its turn comes.
        for turns in &mut owner.turns {
            turns.retain(|&one| one != destination);
        }
        if owner.destinations == 0 {
            self.by_tenant.remove(&owner.tenant);
            self.turns.retain(|&one| one != party);
            self.tenants[party as usize] = Party::new(Tenant::NOBODY);
            self.free_tenants.push(party);
        }
    }

    /// A slot is taken for a check.
    pub(super) fn take(&mut self, destination: u32) {
        self.party(destination).held += 1;
    }

    /// A slot is free again.
    pub(super) fn give(&mut self, destination: u32) {
        self.party(destination).held -= 1;
    }

    /// A connection is kept, or taken up or closed again.
    pub(super) fn parked(&mut self, destination: u32, is_parked: bool) {
        let party = self.party(destination);
        if is_parked {
            party.parked += 1;
        } else {
            party.parked -= 1;
        }
    }

    /// Whether a connection may be kept while so many more may be in all.
    pub(super) fn may_park(&self, destination: u32, room: u32) -> bool {
        let party = &self.tenants[self.destinations[destination as usize].party as usize];
        room > 0 && (self.by_tenant.len() <= 1 || party.parked < room.saturating_mul(PARKED_SHARE))
    }

    /// Whether a check may have a place at once: it is within its tenant's
    /// share, and nobody of its own waits before it.
    pub(super) fn admits(&self, destination: u32, slow: bool, free: u32) -> bool {
        let destination = &self.destinations[destination as usize];
        let party = &self.tenants[destination.party as usize];
        party.turns[usize::from(slow)].is_empty() && party.may_take(slow, free)
    }

    /// A check waits from now on.
    pub(super) fn wait(&mut self, destination: u32, slow: bool, check: u32) {
        let class = usize::from(slow);
        let at = &mut self.destinations[destination as usize];
        let first = at.waiting[class].is_empty();
        at.waiting[class].push_back(check);
        self.waiting += 1;
        let index = at.party;
        let party = &mut self.tenants[index as usize];
        if first && !party.turns[class].contains(&destination) {
            party.turns[class].push_back(destination);
        }
        if !core::mem::replace(&mut party.listed, true) {
            self.turns.push_back(index);
        }
    }

    /// A check waits no more.
    pub(super) fn forgo(&mut self, destination: u32, check: u32) {
        for line in &mut self.destinations[destination as usize].waiting {
            // Who waits for longest stands first, and gives up first.
            if let Some(at) = line.iter().position(|&one| one == check) {
                line.remove(at);
                self.waiting -= 1;
                return;
            }
        }
    }

    /// The next check that may have one of so many free places.
    pub(super) fn next(&mut self, free: u32) -> Option<u32> {
        if free == 0 {
            return None;
        }
        for _ in 0..self.turns.len() {
            let index = self.turns.pop_front()?;
            let found = self.next_of(index, free);
            let party = &mut self.tenants[index as usize];
            party.listed = party.turns.iter().any(|turns| !turns.is_empty());
            if party.listed {
                self.turns.push_back(index);
            }
            if found.is_some() {
                self.waiting -= 1;
                return found;
            }
        }
        None
    }

    fn next_of(&mut self, index: u32, free: u32) -> Option<u32> {
        let party = &mut self.tenants[index as usize];
        for slow in [false, true] {
            if !party.may_take(slow, free) {
                continue;
            }
            let class = usize::from(slow);
            while let Some(destination) = party.turns[class].pop_front() {
                let line = &mut self.destinations[destination as usize].waiting[class];
                let check = line.pop_front();
                if !line.is_empty() {
                    party.turns[class].push_back(destination);
                }
                if check.is_some() {
                    return check;
                }
            }
        }
        None
    }

    /// How many wait.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// A probe of that destination had this outcome.
    pub(super) fn count(&mut self, destination: u32, outcome: Outcome) {
        let ours = sickness::is_ours(outcome);
        if ours || !matches!(outcome, Outcome::NotMeasured(_)) {
            let party = self.party(destination);
            party.outcomes = party.outcomes.saturating_add(1);
            party.ours = party.ours.saturating_add(u32::from(ours));
        }
    }

    /// Outcomes since the last call that failed on our side, and all. What
    /// befalls some tenants while most fare well is theirs, not this thread's.
    pub(super) fn take_trouble(&mut self) -> (u64, u64) {
        let (mut ours, mut outcomes) = (0, 0);
        let (mut heard, mut troubled) = (0_u32, 0_u32);
        for party in &mut self.tenants {
            let (own, all) = (
                core::mem::take(&mut party.ours),
                core::mem::take(&mut party.outcomes),
            );
            ours += u64::from(own);
            outcomes += u64::from(all);
            heard += u32::from(all > 0);
            troubled += u32::from(all > 0 && own.saturating_mul(2) >= all);
        }
        if troubled * 2 > heard {
            (ours, outcomes)
        } else {
            (0, outcomes)
        }
    }

    fn party(&mut self, destination: u32) -> &mut Party {
        let party = self.destinations[destination as usize].party;
        &mut self.tenants[party as usize]
    }
}

impl Party {
    fn new(tenant: Tenant) -> Self {
        Self {
            tenant,
            destinations: 0,
            held: 0,
            parked: 0,
            listed: false,
            turns: Default::default(),
            outcomes: 0,
            ours: 0,
        }
    }

    const fn may_take(&self, slow: bool, free: u32) -> bool {
        let share = if slow {
            PLACES_SHARE_SLOW
        } else {
            PLACES_SHARE
        };
        self.held < free.saturating_mul(share)
    }
}

fn put<T>(all: &mut Vec<T>, free: &mut Vec<u32>, new: T) -> u32 {
    if let Some(index) = free.pop() {
        all[index as usize] = new;
        return index;
    }
    all.push(new);
    (all.len() - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: u32 = 900;

    fn addr(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    /// Gives out places until nobody may have one; gives how many of each.
    fn give_out(places: &mut Places, used: &mut u32, of: &[u32]) {
        while let Some(check) = places.next(SLOTS - *used) {
            places.take(of[check as usize]);
            *used += 1;
        }
    }

    #[test]
    fn greedy_tenants_end_at_equal_parts_and_a_modest_one_has_all_it_wants() {
        let mut places = Places::default();
        let of: Vec<u32> = (0..3)
            .map(|n| places.enroll(Tenant::of(&n.to_string()), addr(n)))
            .collect();
        let mut used = 0;
        for _ in 0..2 * SLOTS {
            places.wait(of[0], false, 0);
        }
        give_out(&mut places, &mut used, &of);
        let alone = places.party(of[0]).held;
        assert_eq!(alone, SLOTS * PLACES_SHARE / (PLACES_SHARE + 1));
        // The other is as greedy, and has to wait for what ends.
        for _ in 0..2 * SLOTS {
            places.wait(of[1], false, 1);
        }
        give_out(&mut places, &mut used, &of);
        while places.party(of[0]).held > places.party(of[1]).held {
            places.give(of[0]);
            used -= 1;
            give_out(&mut places, &mut used, &of);
        }
        for _ in 0..10 {
            assert!(places.admits(of[2], false, SLOTS - used));
            places.take(of[2]);
            used += 1;
        }
    }

    #[test]
    fn slow_checks_leave_places_for_quick_ones_of_the_same_tenant() {
        let mut places = Places::default();
        let of = [places.enroll(Tenant::of("a"), addr(1))];
        let mut used = 0;
        for _ in 0..2 * SLOTS {
            places.wait(of[0], true, 0);
        }
        give_out(&mut places, &mut used, &of);
        let slow = used;
        for _ in 0..SLOTS {
            places.wait(of[0], false, 0);
        }
        give_out(&mut places, &mut used, &of);
        assert!(used - slow >= SLOTS / 20, "{slow} and {used}");
    }

    #[test]
    fn destinations_of_one_tenant_have_their_turns() {
        let mut places = Places::default();
        let of: Vec<u32> = (0..2)
            .map(|n| places.enroll(Tenant::of("a"), addr(n)))
            .collect();
        for _ in 0..100 {
            places.wait(of[0], false, 0);
        }
        places.wait(of[1], false, 1);
        let first: Vec<u32> = (0..2).filter_map(|_| places.next(SLOTS)).collect();
        assert_eq!(first, [0, 1]);
    }

    #[test]
    fn who_gives_up_or_goes_leaves_nothing_behind() {
        let mut places = Places::default();
        let here = places.enroll(Tenant::of("a"), addr(1));
        places.wait(here, true, 7);
        places.forgo(here, 7);
        assert_eq!((places.waiting(), places.next(SLOTS)), (0, None));
        places.leave(here);
        assert!(places.by_tenant.is_empty() && places.by_destination.is_empty());
        let again = places.enroll(Tenant::of("b"), addr(2));
        places.wait(again, false, 8);
        assert_eq!(places.next(SLOTS), Some(8));
    }

    #[test]
    fn one_tenants_trouble_is_not_the_threads() {
        let ours = Outcome::NotMeasured(watchfire_wire::Unmeasured::OutOfPorts);
        let mut places = Places::default();
        let of: Vec<u32> = (0..3)
            .map(|n| places.enroll(Tenant::of(&n.to_string()), addr(n)))
            .collect();
        for _ in 0..1_000 {
            places.count(of[0], ours);
        }
        places.count(of[1], Outcome::Pass);
        assert_eq!(places.take_trouble(), (0, 1_001));
        for &one in &of {
            places.count(one, ours);
        }
        assert_eq!(places.take_trouble(), (3, 3));
    }
}
