//! memberlist's transmit-limited queue: each piece of news goes out a number of
//! times that grows with the logarithm of the cluster, least-sent first.

const RETRANSMIT_MULT: u32 = 4;
/// Per message in a compound packet, bytes.
const COMPOUND_BYTES: usize = 2;

/// News of one member.
#[derive(Clone, Copy, Debug)]
pub(super) struct News {
    pub(super) about: usize,
    pub(super) incarnation: u32,
    pub(super) word: Word,
}

/// What is said of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    Alive,
    Suspect { by: usize },
    Dead { by: usize },
}

impl News {
    /// Encoded with ten-letter names, bytes.
    pub(super) fn bytes(&self) -> usize {
        let body = match self.word {
            Word::Alive => 88,
            Word::Suspect { .. } | Word::Dead { .. } => 52,
        };
        body + COMPOUND_BYTES
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Broadcasts {
    items: Vec<Item>,
    queued: u64,
}

#[derive(Debug)]
struct Item {
    news: News,
    sent: u32,
    order: u64,
}

impl Broadcasts {
    /// Adds news and drops what it makes obsolete.
    pub(super) fn queue(&mut self, news: News) {
        self.items.retain(|item| item.news.about != news.about);
        self.items.push(Item {
            news,
            sent: 0,
            order: self.queued,
        });
        self.queued += 1;
    }

    /// What fits into `room` bytes, and how many bytes it takes.
    pub(super) fn take(&mut self, room: usize, members: usize) -> (Vec<News>, usize) {
        if self.items.is_empty() {
            return (Vec::new(), 0);
        }
        // Least sent, then longest, then newest.
        self.items.sort_by_key(|item| {
            (
                item.sent,
                std::cmp::Reverse(item.news.bytes()),
                std::cmp::Reverse(item.order),
            )
        });
        let limit = RETRANSMIT_MULT * ((members + 1) as f64).log10().ceil() as u32;
        let mut used = 0;
        let mut taken = Vec::new();
        for item in &mut self.items {
            if used + item.news.bytes() > room {
                continue;
            }
            used += item.news.bytes();
            item.sent += 1;
            taken.push(item.news);
        }
        self.items.retain(|item| item.sent < limit);
        (taken, used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_is_sent_as_often_as_the_logarithm_asks_and_then_forgotten() {
        let mut broadcasts = Broadcasts::default();
        broadcasts.queue(News {
            about: 1,
            incarnation: 1,
            word: Word::Alive,
        });
        let rounds = (0..20)
            .filter(|_| !broadcasts.take(1_400, 64).0.is_empty())
            .count();
        assert_eq!(rounds, 8);
    }

    #[test]
    fn newer_news_of_a_member_replaces_older() {
        let mut broadcasts = Broadcasts::default();
        broadcasts.queue(News {
            about: 1,
            incarnation: 1,
            word: Word::Suspect { by: 2 },
        });
        broadcasts.queue(News {
            about: 1,
            incarnation: 2,
            word: Word::Alive,
        });
        let (taken, _) = broadcasts.take(1_400, 10);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].incarnation, 2);
    }
}
