//! Where looks of every member meet the node: see [`Looks`](crate::look).

use core::time::Duration;

use watchfire_wire::message::Body;
use watchfire_wire::message::replica::{Question, Replica, Sight};
use watchfire_wire::{Actor, CheckId, Time, Unmeasured};

use super::Node;
use crate::budget::Class;
use crate::io::Output;
use crate::look::TooManyLooks;

impl Node {
    /// Every living member probes this check once and says what it found, because
    /// a person asks: [`Output::Looked`] brings it all, under the number that is
    /// given here. Call [`handle`](Self::handle) next.
    ///
    /// # Errors
    /// Too many are being looked at; then nothing happens.
    pub fn look(
        &mut self,
        now: Time,
        check: CheckId,
        timeout: Duration,
    ) -> Result<u64, TooManyLooks> {
        let me = self.own.actor.node;
        let others = self
            .swim
            .members()
            .filter(|member| member.state.is_living());
        let others = others
            .map(|member| member.actor.node)
            .filter(|node| *node != me);
        let (look, ask) = self.looks.begin(now, check, timeout, me, others)?;
        if self.duties.is_able(check) {
            self.out.push_back(Output::Ask { check, ask });
        } else {
            self.looks
                .probed(ask, Sight::of_code(Unmeasured::NotYet.code()));
        }
        Ok(look)
    }

    pub(super) fn asked_to_look(&mut self, now: Time, from: Actor, question: Question) {
        let check = question.check;
        let able = self.prober_healthy && self.duties.is_able(check);
        if let Some(ask) = self.looks.asked(now, from, question, able) {
            self.out.push_back(Output::Ask { check, ask });
        }
    }

    /// Sends what waits, and tells of what is over.
    pub(super) fn tend_looks(&mut self, now: Time) {
        for (Actor { node, .. }, look, check, sight) in self.looks.take_answers() {
            if let Some(to) = self.living_addr(node) {
                let body = Body::Replica(Replica::Seen { look, check, sight });
                self.send(now, Class::Opinion, to, body, Vec::new());
            }
        }
        if let Some((node, question)) = self.looks.take_question(now)
            && let Some(to) = self.living_addr(node)
        {
            let body = Body::Replica(Replica::Look { question });
            self.send(now, Class::Opinion, to, body, Vec::new());
        }
        for (look, said) in self.looks.take_over(now) {
            self.out.push_back(Output::Looked { look, said });
        }
    }
}
