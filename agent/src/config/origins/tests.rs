//! Origins as people write them, and their mistakes.

use std::collections::HashSet;
use std::time::Duration;

use watchfire_probe_core::CheckSpec;

use super::*;

fn put_together(sources: &[Source], policy: &Policy) -> Result<OriginSet, ConfigError> {
    let parse = |source| parse(source, &OriginDefaults::default());
    let files: Result<Vec<_>, _> = sources.iter().map(parse).collect();
    let files = files.map_err(|mut errors| errors.remove(0))?;
    let files: Vec<_> = files.iter().collect();
    merge(&files, &by(policy)).map_err(|conflict| conflict.error)
}

fn load(patterns: &[String], base: &Path, policy: &Policy) -> Result<OriginSet, ConfigError> {
    let (paths, _) = expand(patterns, base)?;
    let sources: Result<Vec<_>, _> = paths.iter().map(|path| Source::read(path)).collect();
    put_together(&sources?, policy)
}

fn load_text(text: &str) -> Result<OriginSet, ConfigError> {
    let source = Source::from_text(Path::new("o.toml"), text.to_owned())?;
    put_together(&[source], &Policy::default())
}

/// Judges by the policy alone.
fn by(policy: &Policy) -> impl Fn(&CheckSpec) -> Option<Refusal> {
    let ability = Ability::new(&watchfire_probe::Options::default());
    move |spec| refusal(policy, &ability, spec)
}

fn refused(text: &str, line: usize, word: &str) {
    let error = load_text(text).expect_err("must be refused");
    assert_eq!(error.line, Some(line), "{error}");
    assert!(error.to_string().contains(word), "{error}");
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
        "defined differently in o.toml:2",
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
    let read = |policy: &Policy| load(&files, dir.path(), policy).unwrap();
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
        ("h2", "connection = \"reuse\""),
        ("h2-tls", "version = \"1.0\""),
        ("h2", "service = \"shop.v1.Cart\""),
        ("grpc", "path = \"/health\""),
        ("grpc-tls", "expect = \"200\""),
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
fn a_file_of_tls_that_cannot_serve_is_refused_at_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.path().join(name);
        std::fs::write(&path, "no certificate\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let (public, secret) = (file("public", 0o644), file("secret", 0o600));
    for (line, word) in [
        ("ca_file = \"nowhere\"".to_owned(), "nowhere"),
        (format!("ca_file = \"{public}\""), "holds no certificate"),
        (
            format!("client_key = \"{public}\""),
            "others than its owner",
        ),
        (
            format!("client_key = \"{secret}\""),
            "without its certificate",
        ),
        ("tls_min_version = \"1.0\"".to_owned(), "means nothing"),
        ("alpn = \"h2\"".to_owned(), "no list"),
    ] {
        refused(&format!("{GOOD}kind = \"https\"\n{line}\n"), 5, word);
    }
}

#[test]
fn what_is_no_origins_file_in_a_folder_is_passed_over_and_a_named_one_is_refused() {
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
    let load_of = |pattern: &str| load(&[pattern.to_owned()], dir.path(), &Policy::default());
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

#[test]
fn a_link_local_origin_is_on_a_named_interface_and_the_same_check_on_every_server() {
    let origin = |address: &str, more: &str| {
        format!("[[origin]]\nname = \"a\"\naddress = \"{address}\"\n{more}")
    };
    let id = |address: &str, more: &str| {
        let set = load_text(&origin(address, more)).unwrap();
        set.origins.names["a"]
    };
    // There need be no such interface here: the name is what counts.
    let named = id("[fe80::1%wan7]:80", "");
    assert_eq!(named, id("[fe80::1]:80", "interface = \"wan7\"\n"));
    assert_eq!(named, id("[fe80::1%wan7]:80", "interface = \"wan7\"\n"));
    assert_ne!(named, id("[fe80::1%wan8]:80", ""));
    assert_ne!(named, id("[fe80::1%7]:80", ""));
    for (address, more, line, words) in [
        ("[fe80::1]:80", "", 3, "like \"[fe80::1%eth0]:80\""),
        (
            "[fe80::1%wan7]:80",
            "interface = \"wan8\"\n",
            4,
            "says \"wan7\"",
        ),
        ("[fe80::1%a/b]:80", "", 3, "`ip link` lists them"),
        ("[fe80::1%]:80", "", 3, "is not an address and port"),
        ("[2001:db8::1%wan7]:80", "", 3, "is not an address and port"),
    ] {
        refused(&origin(address, more), line, words);
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
