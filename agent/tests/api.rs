//! The admin API as other programs use it: curl on the socket and on TCP.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Agent, Pop};

const PATIENCE: Duration = Duration::from_secs(30);

/// The status and the body of one request.
fn curl(agent: &Agent, before: &[&str], more: &[&str], page: &str) -> (u16, serde_json::Value) {
    let socket = agent.home.join("admin.sock");
    let mut line: Vec<&str> = before.to_vec();
    line.extend(["curl", "-s", "-g", "-w", "\n%{http_code}"]);
    if !page.starts_with("http") {
        line.extend(["--unix-socket", socket.to_str().unwrap()]);
    }
    line.extend(more);
    let url = if page.starts_with("http") {
        page.to_owned()
    } else {
        format!("http://agent{page}")
    };
    line.push(&url);
    let output = Command::new(line[0]).args(&line[1..]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (
        status.parse().unwrap(),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

fn wait(agent: &Agent) {
    let deadline = Instant::now() + PATIENCE;
    while curl(agent, &[], &[], "/v1/status").0 != 200 {
        assert!(Instant::now() < deadline, "{}", agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn pages_answer_and_what_is_wrong_is_said() {
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    agent.write_origins("[[origin]]\nname = \"a\"\naddress = \"127.0.0.1:9\"\n");
    agent.start();
    wait(agent);
    let (_, status) = curl(agent, &[], &[], "/v1/status");
    assert_eq!(
        (&status["node"], &status["origins"]),
        (&"node-0".into(), &1.into())
    );
    let (code, names) = curl(agent, &[], &[], "/v1/origins");
    assert_eq!((code, names), (200, serde_json::json!(["a"])));
    let (code, why) = curl(agent, &[], &[], "/v1/why?origin=a");
    assert_eq!((code, &why["origin"]), (200, &"a".into()));
    for (page, code, part) in [
        ("/v1/why?origin=b", 404, "no origin is named"),
        ("/v1/why", 400, "origin"),
        ("/v1/events?limit=many", 400, "limit"),
        ("/v1/events?name=[", 400, "pattern"),
        ("/v1/flapping?since=1", 400, "since"),
        ("/v1/nothing", 404, "/openapi.json"),
    ] {
        let (got, body) = curl(agent, &[], &[], page);
        assert_eq!(got, code, "{page}: {body}");
        assert!(
            body["error"].as_str().unwrap().contains(part),
            "{page}: {body}"
        );
    }
    let json = "content-type: application/json";
    for body in [
        "",
        "{",
        "{\"op\":\"explode\",\"names\":[],\"for_ms\":null,\"why\":\"\"}",
    ] {
        let (code, answer) = curl(agent, &[], &["-H", json, "-d", body], "/v1/overrides");
        assert_eq!(code, 400, "{body}: {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    let down = "{\"op\":\"down\",\"names\":[\"a\"],\"for_ms\":null,\"why\":\"disks\"}";
    let (code, done) = curl(agent, &[], &["-H", json, "-d", down], "/v1/overrides");
    assert_eq!((code, &done["names"]), (200, &1.into()), "{done}");
    let (_, all) = curl(agent, &[], &[], "/v1/overrides");
    assert_eq!(
        (&all[0]["op"], &all[0]["why"]),
        (&"down".into(), &"disks".into())
    );
    let (code, document) = curl(agent, &[], &[], "/openapi.json");
    assert_eq!(code, 200);
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3."),
        "{document}"
    );
}

#[test]
fn a_group_may_read_and_change_nothing_and_nobody_else_may_connect() {
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    agent.edit("[admin]", "[admin]\ngroup = \"proxy\"");
    agent.write_origins("");
    agent.start();
    wait(agent);
    for folder in [agent.home.parent().unwrap(), &agent.home] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let proxy = ["setpriv", "--reuid=13", "--regid=13", "--clear-groups"];
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    assert_eq!(curl(agent, &proxy, &[], "/v1/status").0, 200);
    assert_eq!(curl(agent, &nobody, &[], "/v1/status").0, 0);
    for page in ["/v1/drain", "/v1/reload", "/v1/overrides"] {
        let (code, answer) = curl(agent, &proxy, &["-X", "POST"], page);
        assert_eq!(code, 403, "{page}: {answer}");
    }
    assert_eq!(agent.status()["draining"], false);
}

#[test]
fn over_tcp_a_token_opens_and_nothing_else() {
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let token = agent.home.join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
    let listen = format!("[admin]\nlisten = \"127.0.0.1:{port}\"\ntoken_file = \"token\"");
    agent.edit("[admin]", &listen);
    agent.write_origins("");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let check = agent.ask(&["doctor", "--json"]);
    let said = String::from_utf8(check.stdout).unwrap();
    assert!(said.contains("chmod 600"), "{said}");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    agent.start();
    wait(agent);
    let page = |page: &str| format!("http://127.0.0.1:{port}{page}");
    let with = |token: &str| format!("Authorization: Bearer {token}");
    let right = with("0123456789abcdef0123456789abcdef");
    assert_eq!(curl(agent, &[], &[], &page("/v1/status")).0, 401);
    let wrong = with("0123456789abcdef0123456789abcdee");
    assert_eq!(
        curl(agent, &[], &["-H", &wrong], &page("/openapi.json")).0,
        401
    );
    assert_eq!(
        curl(agent, &[], &["-H", &right], &page("/v1/status")).0,
        200
    );
    let (code, answer) = curl(
        agent,
        &[],
        &["-H", &right, "-X", "POST"],
        &page("/v1/drain"),
    );
    assert_eq!((code, &answer["done"]), (200, &"draining".into()));
}
