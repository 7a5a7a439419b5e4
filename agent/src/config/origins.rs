//! Origins files: which origins there are and how each is checked.
//!
//! A check is named by its content, so two origins with the same definition
//! share one check. A name may stand twice only with the same definition.

mod spec;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use watchfire_host::{Origins, Refusal};
use watchfire_probe::Ability;
use watchfire_probe_core::CheckSpec;
use watchfire_probe_core::policy::Policy;
use watchfire_wire::{CheckId, Unmeasured};

pub(crate) use super::keys::OriginDefaults;
use super::keys::{Layers, Table};
use super::source::{ConfigError, Source};
use super::strangers::{self, Stranger};

/// Origins that one agent may be given. More are refused at load.
pub(crate) const ORIGINS: usize = 500_000;

/// Longest origin name, bytes: the table's limit.
pub(crate) const ORIGIN_NAME_BYTES: usize = watchfire_table::limits::NAME_BYTES;

/// Every origin, and where it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OriginSet {
    /// By name, with the check that watches it.
    pub(crate) origins: Origins,
    /// Files that were read.
    pub(crate) files: Vec<PathBuf>,
    /// Origins that are not probed by what the agent's own file says, or for
    /// what this server lacks.
    pub(crate) denied: Vec<Denied>,
    /// Checks with a way of their own: this server may gain or lose it.
    ways: Vec<CheckId>,
}

/// An origin that is not probed, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Denied {
    pub(crate) name: Arc<str>,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    pub(crate) because: Arc<str>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line, name) = (self.file.display(), self.line, &self.name);
        write!(
            f,
            "{file}:{line}: origin \"{name}\" is not probed: {}",
            self.because
        )
    }
}

/// Origins that are named where it is said that some are not probed; of the rest
/// the number is said.
const DENIED_NAMED: usize = 10;

impl OriginSet {
    /// The same origins, as they are judged now, and what is to be said of the
    /// difference; nothing if there is none.
    pub(crate) fn judged_again(
        &self,
        judge: &dyn Fn(&CheckSpec) -> Option<Refusal>,
    ) -> Option<(Origins, Vec<String>)> {
        if self.ways.is_empty() {
            return None;
        }
        let mut refused = self.origins.refused.clone();
        for id in &self.ways {
            match judge(&self.origins.checks[id]) {
                Some(refusal) => refused.insert(*id, refusal),
                None => refused.remove(id),
            };
        }
        if refused == self.origins.refused {
            return None;
        }
        let news = |name: &Arc<str>, id| match (self.origins.refused.get(id), refused.get(id)) {
            (before, now) if before == now => None,
            (_, Some(now)) => Some(format!("origin \"{name}\" is not probed: {}", now.because)),
            (_, None) => Some(format!("origin \"{name}\" is probed from now on")),
        };
        let mut lines: Vec<String> = self
            .origins
            .names
            .iter()
            .filter_map(|(name, id)| news(name, id))
            .collect();
        if let Some(rest) = lines.len().checked_sub(DENIED_NAMED).filter(|&n| n > 0) {
            lines.truncate(DENIED_NAMED);
            lines.push(format!("and so on for {rest} more origins"));
        }
        let origins = Origins {
            refused,
            ..self.origins.clone()
        };
        Some((origins, lines))
    }

    /// Says, for people, which origins are not probed and were not so before.
    pub(crate) fn say_denied(&self, before: Option<&Self>, mut say: impl FnMut(String)) {
        let known = |denied: &&Denied| {
            let is = |id| before.and_then(|set| set.origins.refused.get(id));
            let id = &self.origins.names[&denied.name];
            is(id) != self.origins.refused.get(id)
        };
        let news: Vec<_> = self.denied.iter().filter(known).collect();
        for denied in news.iter().take(DENIED_NAMED) {
            say(denied.to_string());
        }
        if let Some(rest) = news
            .len()
            .checked_sub(DENIED_NAMED)
            .filter(|&rest| rest > 0)
        {
            say(format!("{rest} more origins are not probed either"));
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: OriginDefaults,
    #[serde(default)]
    origin: Vec<Spanned<Table>>,
}

/// Reads every origins file that the patterns name, in the order of the
/// patterns and then of the names.
///
/// # Errors
///
/// A pattern is broken, a file cannot be read or parsed, an origin's
/// definition makes no sense, or a name stands twice with two definitions.
pub(crate) fn load(
    patterns: &[String],
    base: &Path,
    agent_defaults: &OriginDefaults,
    judge: &dyn Fn(&CheckSpec) -> Option<Refusal>,
) -> Result<OriginSet, ConfigError> {
    let mut set = OriginSet::default();
    let mut places = Places::new();
    let (paths, passed_over) = expand(patterns, base)?;
    if let Some(line) = strangers::line(&passed_over) {
        tracing::warn!("passed over, for these are no origins files: {line}");
    }
    for path in paths {
        let source = Source::read(&path)?;
        read_file(&source, agent_defaults, &mut set, &mut places)?;
        set.files.push(path);
    }
    let checks = set.origins.checks.iter();
    let ways = checks.filter(|(_, spec)| spec.egress.is_some());
    set.ways = ways.map(|(id, _)| *id).collect();
    deny(&mut set, judge, &mut places);
    Ok(set)
}

/// Why an agent that goes by this policy, on a server with these abilities,
/// takes no part in a check.
pub(crate) fn refusal(policy: &Policy, ability: &Ability, spec: &CheckSpec) -> Option<Refusal> {
    if let Err(denial) = policy.judge(spec.target) {
        return Some(Refusal {
            reason: Unmeasured::Denied,
            because: denial.to_string().into(),
        });
    }
    let lack = ability.lack(spec)?;
    Some(Refusal {
        reason: lack.reason,
        because: lack.because.into(),
    })
}

/// Origins that cannot or may not be probed here are no mistake of the file:
/// one tenant's must not keep all others' from being read.
fn deny(set: &mut OriginSet, judge: &dyn Fn(&CheckSpec) -> Option<Refusal>, places: &mut Places) {
    let origins = &mut set.origins;
    for (id, spec) in &origins.checks {
        if let Some(refusal) = judge(spec) {
            origins.refused.insert(*id, refusal);
        }
    }
    for (name, id) in &origins.names {
        if let Some(refusal) = origins.refused.get(id)
            && let Some((file, line)) = places.remove(name)
        {
            set.denied.push(Denied {
                name: Arc::clone(name),
                file,
                line,
                because: Arc::clone(&refusal.because),
            });
        }
    }
}

/// Where each name stands.
type Places = BTreeMap<Arc<str>, (PathBuf, usize)>;

/// The files that the patterns name now; what cannot be looked into is left
/// out, for [`load`] says so.
pub(crate) fn files(patterns: &[String], base: &Path) -> Vec<PathBuf> {
    expand(patterns, base).unwrap_or_default().0
}

/// The files that the patterns name now, and what they found that is no
/// origins file. A pattern without a wildcard names its file even if that is
/// not there, so that the error can say so.
fn expand(patterns: &[String], base: &Path) -> Result<(Vec<PathBuf>, Vec<Stranger>), ConfigError> {
    let mut paths = Vec::new();
    let mut passed_over = Vec::new();
    for pattern in patterns {
        let full = base.join(pattern);
        if !has_wildcard(&full) {
            paths.push(full);
            continue;
        }
        let find = |options| {
            glob::glob_with(&full.to_string_lossy(), options).map_err(|e| {
                ConfigError::of_file(
                    &full,
                    format!("the pattern is broken: {e}"),
                    "write it like \"origins.d/*.toml\"",
                )
            })
        };
        let found = find(glob::MatchOptions::new())?;
        // Who writes the dot means hidden names, and `glob` would not find them
        // with the option below.
        let dotted = full
            .iter()
            .any(|part| has_wildcard(Path::new(part)) && part.to_string_lossy().starts_with('.'));
        let in_sight: HashSet<PathBuf> = find(glob::MatchOptions {
            require_literal_leading_dot: true,
            ..glob::MatchOptions::new()
        })?
        .flatten()
        .collect();
        if !full
            .parent()
            .is_none_or(|dir| dir.is_dir() || has_wildcard(dir))
        {
            return Err(ConfigError::of_file(
                &full,
                "the pattern's folder does not exist",
                "create the folder, or correct origins.files",
            ));
        }
        for entry in found {
            let path = entry.map_err(|e| {
                ConfigError::of_file(
                    e.path(),
                    format!("cannot look into it: {}", e.error()),
                    "let the agent's user read the folder",
                )
            })?;
            let kind = std::fs::metadata(&path).ok().map(|meta| meta.file_type());
            let hidden = !dotted && !in_sight.contains(&path);
            match strangers::why_not(&path, hidden, kind) {
                Some(why) => passed_over.push(Stranger { path, why }),
                None => paths.push(path),
            }
        }
    }
    Ok((paths, passed_over))
}

fn has_wildcard(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

fn read_file(
    source: &Source,
    agent_defaults: &OriginDefaults,
    set: &mut OriginSet,
    places: &mut Places,
) -> Result<(), ConfigError> {
    let file: File = source.parse()?;
    file.defaults.check(source)?;
    for origin in &file.origin {
        let mut layers = Layers::new(source, origin, &file.defaults, agent_defaults);
        let name = layers.name()?;
        let name_span = name.span();
        let name: Arc<str> = check_name(source, &name)?.into();
        let spec = spec::read(&mut layers)?;
        let id = spec.id();
        let line = source.line(name_span.clone());
        if let Some(known) = set.origins.names.get(&name) {
            if *known == id {
                continue;
            }
            let (file, first) = &places[&name];
            return Err(source.error(
                name_span,
                format!(
                    "origin \"{name}\" stands here with another definition than in {}:{first}",
                    file.display()
                ),
                "rename one of the two, or make their definitions the same",
            ));
        }
        if set.origins.names.len() >= ORIGINS {
            return Err(source.error(
                name_span,
                format!("there are more than {ORIGINS} origins"),
                "split the POP: one agent watches at most that many",
            ));
        }
        set.origins
            .checks
            .entry(id)
            .or_insert_with(|| Arc::new(spec));
        set.origins.names.insert(name.clone(), id);
        places.insert(name, (source.path().to_owned(), line));
    }
    Ok(())
}

fn check_name<'a>(source: &Source, name: &'a Spanned<String>) -> Result<&'a str, ConfigError> {
    let text = name.get_ref().as_str();
    if text.is_empty() {
        return Err(source.error(
            name.span(),
            "the origin's name is empty",
            "give it the name under which the proxy will look it up",
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(source.error(
            name.span(),
            "the origin's name holds a control character",
            "use characters that can be printed and typed",
        ));
    }
    if text.len() > ORIGIN_NAME_BYTES {
        return Err(source.error(
            name.span(),
            format!(
                "the origin's name has {} bytes; the table holds names of at most \
                 {ORIGIN_NAME_BYTES}",
                text.len()
            ),
            "shorten the name",
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load_text(text: &str) -> Result<OriginSet, ConfigError> {
        let source = Source::from_text(Path::new("o.toml"), text.to_owned())?;
        let mut set = OriginSet::default();
        read_file(
            &source,
            &OriginDefaults::default(),
            &mut set,
            &mut BTreeMap::new(),
        )?;
        Ok(set)
    }

    fn refused(text: &str, line: usize, word: &str) {
        let error = load_text(text).expect_err("must be refused");
        assert_eq!(error.line, Some(line), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }

    /// Judges by the policy alone.
    fn by(policy: &Policy) -> impl Fn(&CheckSpec) -> Option<Refusal> {
        let ability = Ability::new(&watchfire_probe::Options::default());
        move |spec| refusal(policy, &ability, spec)
    }

    const GOOD: &str = "[[origin]]\nname = \"a\"\naddress = \"127.0.0.1:80\"\n";

    #[test]
    fn the_same_definition_under_two_names_is_one_check() {
        let set = load_text(&format!("{GOOD}{}", GOOD.replace("\"a\"", "\"b\""))).unwrap();
        assert_eq!((set.origins.names.len(), set.origins.checks.len()), (2, 1));
    }

    #[test]
    fn a_name_may_stand_twice_only_with_one_definition() {
        assert_eq!(
            load_text(&format!("{GOOD}{GOOD}"))
                .unwrap()
                .origins
                .names
                .len(),
            1
        );
        refused(
            &format!("{GOOD}{}", GOOD.replace(":80", ":81")),
            5,
            "another definition than in o.toml:2",
        );
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        refused(&format!("{GOOD}intervall = \"1s\"\n"), 4, "intervall");
        refused(&format!("{GOOD}interval = \"0s\"\n"), 4, "too short");
        refused(&format!("{GOOD}interval = \"-1s\"\n"), 4, "negative");
        refused(&format!("{GOOD}timeout = \"2s\"\n"), 4, "timeout");
        refused(&GOOD.replace(":80", ""), 3, "not an address and port");
        refused(&format!("{GOOD}expect = \"2yy\"\n"), 4, "expect");
        refused(&format!("{GOOD}expect = 200\n"), 4, "a text in quotes");
        refused(&format!("{GOOD}rise = 0\n"), 4, "out of range");
        refused(&format!("{GOOD}window = 5\n"), 4, "go together");
        refused(&format!("{GOOD}path = \"x\"\n"), 4, "path");
        refused(
            &format!("{GOOD}kind = \"https\"\nserver_name = \"a:1\"\n"),
            5,
            "server name",
        );
        refused("[[origin]]\nname = \"a\"\n", 1, "address");
        refused(
            &format!("{GOOD}[[origin]]\nname = \"b\"\naddr"),
            6,
            "middle",
        );
    }

    #[test]
    fn what_may_not_be_probed_is_said_once_and_spoils_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let inside = GOOD.replace("\"a\"", "\"inside\"");
        let text = format!("{}{inside}", GOOD.replace("127.0.0.1", "192.0.2.1"));
        std::fs::write(dir.path().join("o.toml"), text).unwrap();
        let files = ["o.toml".to_owned()];
        let read = |policy: &Policy| {
            load(&files, dir.path(), &OriginDefaults::default(), &by(policy)).unwrap()
        };
        let set = read(&Policy::default());
        assert_eq!(
            (set.origins.checks.len(), set.origins.refused.len()),
            (2, 1)
        );
        let said = |before: Option<&OriginSet>| {
            let mut said = Vec::new();
            set.say_denied(before, |line| said.push(line));
            said
        };
        let [line] = &said(None)[..] else {
            panic!("{:?}", said(None))
        };
        assert!(line.contains("o.toml:5: origin \"inside\""), "{line}");
        assert!(line.contains("allow = [\"127.0.0.0/8\"]"), "{line}");
        assert_eq!(said(Some(&set)), Vec::<String>::new());
        let allowed = read(&Policy {
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            ..Policy::default()
        });
        assert_eq!(
            (allowed.origins.refused.len(), allowed.denied.len()),
            (0, 0)
        );
        assert_eq!(said(Some(&allowed)).len(), 1, "it is news again");
    }

    #[test]
    fn of_many_that_may_not_be_probed_some_are_named() {
        let mut set = OriginSet::default();
        for index in 0..DENIED_NAMED + 2 {
            let name: Arc<str> = format!("o{index}").into();
            let id = CheckSpec::tcp(([127, 0, 0, 1], 80).into()).id();
            set.origins.names.insert(Arc::clone(&name), id);
            let because: Arc<str> = "no".into();
            let reason = Unmeasured::Denied;
            let refusal = Refusal {
                reason,
                because: Arc::clone(&because),
            };
            set.origins.refused.insert(id, refusal);
            let file = PathBuf::from("o.toml");
            set.denied.push(Denied {
                name,
                file,
                line: 1,
                because,
            });
        }
        let mut said = Vec::new();
        set.say_denied(None, |line| said.push(line));
        assert_eq!(said.len(), DENIED_NAMED + 1);
        assert!(said[DENIED_NAMED].starts_with("2 more"), "{said:?}");
    }

    #[test]
    fn defaults_reach_every_origin_and_its_own_word_wins() {
        let text = format!(
            "[defaults]\nkind = \"tcp\"\ninterval = \"2s\"\n{GOOD}interval = \"3s\"\n{}",
            GOOD.replace("\"a\"", "\"b\"")
        );
        let set = load_text(&text).unwrap();
        let interval = |name: &str| set.origins.checks[&set.origins.names[name]].interval;
        assert_eq!(interval("a"), Duration::from_secs(3));
        assert_eq!(interval("b"), Duration::from_secs(2));
    }

    #[test]
    fn a_key_of_another_kind_is_an_error_at_that_key() {
        for (kind, key) in [
            ("tcp", "path = \"/health\""),
            ("tcp", "expect = \"200\""),
            ("http", "server_name = \"a.example\""),
            ("http", "verify = false"),
            ("https", "half_open = false"),
        ] {
            let word = key.split(' ').next().unwrap();
            refused(
                &format!("{GOOD}{key}\nkind = \"{kind}\"\n"),
                4,
                &format!("{word} is no key of kind \"{kind}\""),
            );
        }
        refused(&format!("{GOOD}kind = \"htpp\"\n"), 4, "htpp");
        // Defaults speak to many kinds; each takes what it knows.
        let text = format!("[defaults]\nkind = \"tcp\"\npath = \"/health\"\n{GOOD}");
        assert!(load_text(&text).is_ok());
        refused(&format!("[defaults]\npahth = \"/\"\n{GOOD}"), 2, "pahth");
        refused(&format!("[defaults]\npath = \"x\"\n{GOOD}"), 2, "path");
    }

    #[test]
    fn the_nearest_word_on_how_a_verdict_changes_is_the_one_that_counts() {
        let rule = |text: &str| {
            let set = load_text(text).unwrap();
            set.origins.checks[&set.origins.names["a"]].rule.to_string()
        };
        let window = "[defaults]\nwindow = 5\nthreshold = 3\n";
        assert_eq!(rule(&format!("{window}{GOOD}")), "3 of 5, unknown at first");
        assert_eq!(rule(&format!("{window}{GOOD}fall = 1\n")), "rise 2 fall 1");
        assert_eq!(
            rule(&format!(
                "[defaults]\nrise = 9\n{GOOD}window = 5\nthreshold = 2\n"
            )),
            "2 of 5, unknown at first"
        );
        assert_eq!(
            rule(&format!("{window}{GOOD}threshold = 2\n")),
            "2 of 5, unknown at first"
        );
        refused(
            &format!("{GOOD}rise = 2\nwindow = 5\nthreshold = 2\n"),
            4,
            "do not go with",
        );
    }

    #[test]
    fn a_host_with_a_port_is_a_name_without_one() {
        let text = format!("{GOOD}kind = \"https\"\nhost = \"shop.test:8443\"\n");
        let set = load_text(&text).unwrap();
        let spec = &set.origins.checks[&set.origins.names["a"]];
        assert_eq!(spec.tls.as_ref().unwrap().server_name, "shop.test");
        assert!(spec.to_string().contains("host shop.test:8443"), "{spec}");
    }

    #[test]
    fn an_http_check_may_say_much_more() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("secrets");
        std::fs::write(&secrets, "# of the shop\nX-Key: s3cret\n").unwrap();
        let mode = |mode| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o600);
        let text = format!(
            "{GOOD}method = \"POST\"\nbody = \"{{}}\"\nheaders = {{ Accept = \"a/b\" }}\n\
             headers_file = \"{}\"\nexpect_headers = {{ \"X-Ready\" = true }}\n\
             expect_body_regex = \"all (is )?well\"\nexpect_json = {{ \"/n\" = 7 }}\n\
             degraded_status = \"429\"\ndegraded_after = \"300ms\"\n\
             down_at_once_status = \"410\"\nclose = \"fin\"\nversion = \"1.0\"\n",
            secrets.display()
        );
        let set = load_text(&text).unwrap();
        let spec = set.origins.checks[&set.origins.names["a"]].to_string();
        assert!(spec.starts_with("POST http://"), "{spec}");
        assert!(!spec.contains("s3cret"), "{spec}");
        assert_ne!(
            set.origins.names["a"],
            load_text(GOOD).unwrap().origins.names["a"]
        );
        mode(0o640);
        refused(&text, 7, "others than its owner");
        for (line, word) in [
            ("expect_body_regex = \"(\"", "regular expression"),
            ("expect = \"299-200\"", "swap its ends"),
            ("headers = { Host = \"a\" }", "follows from other keys"),
            ("headers = { A = \"b\\r\\nC: d\" }", "cannot be sent"),
            ("headers_file = \"nowhere\"", "nowhere"),
            ("expect_json = { status = \"ok\" }", "does not start with"),
            ("degraded_after = \"soon\"", "no duration"),
        ] {
            refused(&format!("{GOOD}{line}\n"), 4, word);
        }
    }

    #[test]
    fn the_way_of_the_packets_is_part_of_the_check_and_mistakes_have_their_line() {
        let id = |more: &str| {
            let set = load_text(&format!("{GOOD}{more}")).unwrap();
            set.origins.names["a"]
        };
        let ways = [
            "",
            "source_address = \"127.0.0.2\"\n",
            "interface = \"vrf-blue\"\n",
            "mark = 7\n",
            "dscp = 8\n",
            "proxy_protocol = \"v1\"\n",
            "proxy_protocol = \"v2\"\n",
        ];
        let ids: HashSet<_> = ways.iter().map(|way| id(way)).collect();
        assert_eq!(ids.len(), ways.len());
        for (line, words) in [
            ("source_address = \"here\"", "is no address"),
            ("source_address = \"::1\"", "of the origin's family"),
            (
                "source_address = \"0.0.0.0\"",
                "not the address of one host",
            ),
            ("interface = \"a/b\"", "`ip link` lists them"),
            ("mark = -1", "choose 0 to 4294967295"),
            ("dscp = 64", "choose 0 to 63"),
            ("proxy_protocol = \"v3\"", "write one of \"v1\", \"v2\""),
        ] {
            refused(&format!("{GOOD}{line}\n"), 4, words);
        }
        let tcp = format!("{GOOD}kind = \"tcp\"\n");
        refused(
            &format!("{tcp}proxy_protocol = \"v2\"\n"),
            5,
            "choose a kind that has it: tls, http, https, send-expect",
        );
        let defaults = format!("[defaults]\nproxy_protocol = \"v2\"\n{tcp}");
        assert!(load_text(&defaults).is_ok(), "it speaks to other kinds");
    }

    #[test]
    fn strangers_in_a_folder_are_passed_over_and_a_named_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a.toml"), GOOD).unwrap();
        std::fs::write(at(".a.toml"), "\u{0}no TOML").unwrap();
        std::fs::write(at("a.toml~"), "x").unwrap();
        std::fs::write(at("#a.toml#"), "x").unwrap();
        std::os::unix::fs::symlink("op@host.123:17", at(".#a.toml")).unwrap();
        std::fs::create_dir(at("d.toml")).unwrap();
        nix::unistd::mkfifo(&at("f.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("s.toml")).unwrap();
        let load_of = |pattern: &str| {
            load(
                &[pattern.to_owned()],
                dir.path(),
                &OriginDefaults::default(),
                &|_| None,
            )
        };
        for pattern in ["*", "*.toml"] {
            let set = load_of(pattern).unwrap();
            assert_eq!(set.files, [at("a.toml")], "{pattern}");
        }
        let (_, passed_over) = expand(&["*".to_owned()], dir.path()).unwrap();
        assert_eq!(passed_over.len(), 7, "{passed_over:?}");
        // Who writes the dot means the hidden one.
        assert!(load_of(".a*").is_err());
        assert!(load_of("f.toml").is_err());
        // A device is a mistake that is worth an error.
        std::os::unix::fs::symlink("/dev/zero", at("z.toml")).unwrap();
        let error = load_of("*.toml").unwrap_err();
        assert_eq!(error.file, at("z.toml"));
    }
}
