//! One talk: steps taken in order as bytes come.

use watchfire_wire::Reason;

use super::{Spec, Step};
use crate::kind::{Exchange, Next};

/// Bytes that are kept for a step that they do not answer yet. More fail the
/// probe: what is expected is not there.
const HEARD_BYTES: usize = 16 * 1_024;

/// Bytes that are looked through in one probe, those that are looked through
/// again with each further piece among them. More fail the probe: an origin that
/// drips its bytes one by one must not cost the time of all others.
const SCANNED_BYTES: usize = 1_024 * 1_024;

/// A probe by steps.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    /// The step to take next.
    at: usize,
    /// What came and answered no step yet.
    heard: Vec<u8>,
    /// How much of the prepared bytes has left, and is to leave.
    sent: usize,
    due: usize,
    /// How many bytes were looked through.
    scanned: usize,
}

impl Talk {
    /// Takes steps as far as what was heard allows.
    fn go_on(&mut self, spec: &Spec) -> Next {
        loop {
            if matches!(
                spec.steps.get(self.at),
                Some(Step::Expect(_) | Step::Matches(_))
            ) {
                self.scanned += self.heard.len();
                if self.scanned > SCANNED_BYTES {
                    return Next::Fail(Reason::BadContent);
                }
            }
            let found = match spec.steps.get(self.at) {
                // What was said last is answered by anything, or by the end.
                None if self.due > self.sent => return Next::Send,
                None => return Next::Pass { keep: false },
                Some(Step::Send(bytes)) => {
                    self.due += bytes.len();
                    self.at += 1;
                    continue;
                }
                // An answer comes after what was said.
                Some(_) if self.due > self.sent => return Next::Send,
                Some(Step::Expect(bytes)) => self
                    .heard
                    .windows(bytes.len())
                    .position(|part| part == bytes)
                    .map(|start| start + bytes.len()),
                Some(Step::Matches(pattern)) => pattern.end_of_match(&self.heard),
            };
            match found {
                Some(end) => {
                    self.heard.drain(..end);
                    self.at += 1;
                }
                None if self.heard.len() > HEARD_BYTES => return Next::Fail(Reason::BadContent),
                None => return Next::More,
            }
        }
    }
}

impl Exchange for Talk {
    type Spec = Spec;

    fn connected(&mut self, spec: &Spec) -> Next {
        self.go_on(spec)
    }

    fn receive(&mut self, spec: &Spec, bytes: &[u8]) -> Next {
        // One piece beyond the limit is enough to know that it was reached.
        let room = (HEARD_BYTES + 1).saturating_sub(self.heard.len());
        self.heard
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.go_on(spec)
    }

    fn ended(&mut self, spec: &Spec) -> Next {
        if self.at == spec.steps.len() {
            Next::Pass { keep: false }
        } else {
            Next::Fail(Reason::ClosedEarly)
        }
    }

    fn flushed(&mut self) {
        self.sent = self.due;
    }

    fn outgoing<'a>(&'a self, prepared: &'a [u8]) -> &'a [u8] {
        &prepared[self.sent..self.due]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pattern::Pattern;

    fn spec() -> Spec {
        Spec {
            steps: vec![
                Step::Matches(Pattern::new("steps", "220 [^\r\n]*\r\n").unwrap()),
                Step::Send(b"EHLO x\r\n".to_vec()),
                Step::Expect(b"250 ".to_vec()),
                Step::Send(b"QUIT\r\n".to_vec()),
                Step::Expect(b"221".to_vec()),
            ],
        }
    }

    /// What comes of these answers, each cut at `cut`; a talk that wants to
    /// send has sent before the next one comes.
    fn talk(spec: &Spec, answers: &[&[u8]], cut: usize) -> Next {
        let mut talk = Talk::default();
        let mut next = talk.connected(spec);
        for answer in answers {
            let (one, two) = answer.split_at(cut.min(answer.len()));
            for piece in [one, two] {
                if next == Next::Send {
                    talk.flushed();
                }
                if !piece.is_empty() && matches!(next, Next::More | Next::Send) {
                    next = talk.receive(spec, piece);
                }
            }
        }
        if matches!(next, Next::More | Next::Send) {
            next = talk.ended(spec);
        }
        next
    }

    proptest! {
        #[test]
        fn the_result_does_not_depend_on_where_answers_are_cut(cut in 0_usize..40) {
            let good: [&[u8]; 3] = [b"220-hello\r\n220 a\r\n", b"250-x\r\n250 y\r\n", b"221 bye\r\n"];
            prop_assert_eq!(talk(&spec(), &good, cut), Next::Pass { keep: false });
            let bad: [&[u8]; 2] = [b"220 a\r\n", b"550 no\r\n"];
            prop_assert_eq!(talk(&spec(), &bad, cut), Next::Fail(Reason::ClosedEarly));
        }
    }

    #[test]
    fn what_never_ends_is_not_kept() {
        let endless = vec![b'x'; 3 * HEARD_BYTES];
        let next = talk(&spec(), &[&endless], endless.len());
        assert_eq!(next, Next::Fail(Reason::BadContent));
    }

    #[test]
    fn bytes_that_drip_cost_little_and_a_slow_greeting_passes() {
        let spec = spec();
        let drip = |bytes: &[u8]| {
            let mut talk = Talk::default();
            let mut next = talk.connected(&spec);
            let mut taken = 0;
            for byte in bytes {
                if next != Next::More {
                    break;
                }
                next = talk.receive(&spec, std::slice::from_ref(byte));
                taken += 1;
            }
            (next, taken)
        };
        let (next, taken) = drip(&[b'}'; HEARD_BYTES]);
        assert_eq!(next, Next::Fail(Reason::BadContent));
        assert!(taken < 2_000, "{taken} bytes were looked through");
        let greeting = [&[b'2'; 1_000][..], b"220 a\r\n"].concat();
        assert_eq!(drip(&greeting).0, Next::Send);
    }

    #[test]
    fn a_last_word_is_answered_by_the_end() {
        let mut spec = spec();
        spec.steps.truncate(4);
        let answers: [&[u8]; 2] = [b"220 a\r\n", b"250 y\r\n"];
        assert_eq!(talk(&spec, &answers, 99), Next::Pass { keep: false });
    }
}
