//! The one rule, held to the cases that hold the C library and the Lua files.

mod common;

use common::{folder, rule_cases, rule_table};
use watchfire_table::rule;
use watchfire_table::{PoolRule, Reader, Usage, WhenStale};

fn when_stale(word: &str) -> WhenStale {
    match word {
        "static" => WhenStale::Static,
        "open" => WhenStale::Open,
        other => panic!("{other}"),
    }
}

fn usage_of(word: &str) -> Usage {
    match word {
        "use" => Usage::Use,
        "last" => Usage::TryLast,
        "not" => Usage::DoNotUse,
        other => panic!("{other}"),
    }
}

#[test]
fn each_case_of_the_rule() {
    let folder = folder();
    let path = folder.path().join("table");
    rule_table(&path);
    let reader = Reader::open(&path).expect("a table");
    for case in rule_cases() {
        let words: Vec<_> = case.split_whitespace().collect();
        let now_ns = match words[1] {
            "fresh" => Some(common::RULE_FRESH_NS),
            "stale" => Some(common::RULE_STALE_NS),
            _ => None,
        };
        let when = when_stale(words[2]);
        if words[0] == "one" {
            let found = match now_ns {
                Some(now_ns) => reader.usage(words[3].as_bytes(), now_ns, when),
                None => rule::usage(None, when),
            };
            assert_eq!(found, usage_of(words[4]), "{case}");
            continue;
        }
        let pool_rule = PoolRule {
            at_least: words[3].parse().expect("a number"),
            share_percent: words[4].parse().expect("a number"),
            when_stale: when,
        };
        let (names, expected): (Vec<_>, Vec<_>) = words[6..]
            .iter()
            .map(|word| word.split_once('=').expect("NAME=USAGE"))
            .map(|(name, usage)| (name.as_bytes(), usage_of(usage)))
            .unzip();
        let mut found = vec![Usage::default(); names.len()];
        let panic = match now_ns {
            Some(now_ns) => reader.pool(&names, now_ns, &pool_rule, &mut found),
            None => rule::pool(&pool_rule, |_| None, &mut found),
        };
        assert_eq!(found, expected, "{case}");
        assert_eq!(panic, words[5] == "panic", "{case}");
    }
}
