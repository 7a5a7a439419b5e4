//! `watchfire top` on a real terminal, which tmux is, and where there is none.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::{Agent, Pop, WATCHFIRE};
use watchfire_origin::{Farm, FarmOptions, Fault};
use watchfire_table::TableVerdict::{Down, Up};

const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal of 80 by 24 of a server of its own, with a shell in it.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// Nothing where there is no tmux, which in CI is a failure.
    fn start() -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "tmux is not installed, and this test must run in CI"
            );
            eprintln!("skipped: no tmux");
            return None;
        }
        let terminal = Self {
            socket: format!("watchfire-test-{}", std::process::id()),
        };
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "sh",
        ]);
        Some(terminal)
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-u", "-L", &self.socket])
            .args(args)
            .env("LC_ALL", "C.UTF-8")
            .env("PS1", "$ ")
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        let mut args = vec!["send-keys"];
        args.extend(keys);
        self.tmux(&args);
    }

    /// A line for the shell.
    fn line(&self, text: &str) {
        self.keys(&["-l", text]);
        self.keys(&["Enter"]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is so, and gives it.
    fn wait(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let screen = self.screen();
            if is(&screen) {
                return screen;
            }
            assert!(began.elapsed() < PATIENCE, "not {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_for(&self, part: &str) -> String {
        self.wait(part, |screen| screen.contains(part))
    }

    /// Waits until the shell has the terminal again, as it was: lines, echo, and its
    /// own screen.
    fn wait_for_shell(&self) {
        self.line("stty -a | grep -c ' icanon.* echo '; echo is-back");
        let screen = self.wait_for("\nis-back");
        assert!(screen.contains("\n1\nis-back"), "{screen}");
        let alternate = self.tmux(&["display-message", "-p", "#{alternate_on}"]);
        assert_eq!(alternate.trim(), "0", "{screen}");
        self.line("clear");
        self.wait("clear", |screen| !screen.contains("is-back"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let kill = ["-L", &self.socket, "kill-server"];
        let _ = Command::new("tmux").args(kill).output();
    }
}

fn top(agent: &Agent) -> String {
    format!("{WATCHFIRE} top --config {}", agent.config().display())
}

fn pop(farm: &Farm) -> Pop {
    let origins: String = (0..4)
        .map(|n| {
            let address = farm.address(n);
            format!(
                "[[origin]]\nname = \"shop-{n}\"\naddress = \"{address}\"\npath = \"/health\"\n\
                 interval = \"300ms\"\n"
            )
        })
        .collect();
    let mut pop = Pop::new(2);
    for agent in &mut pop.agents {
        agent.write_origins(&origins);
        agent.start();
    }
    pop.wait_for(Up, 4, PATIENCE);
    pop
}

fn farm() -> Farm {
    Farm::start(FarmOptions {
        count: 4,
        ..FarmOptions::default()
    })
    .unwrap()
}

#[test]
fn it_follows_the_pop_on_a_terminal_and_gives_it_back() {
    let Some(terminal) = Terminal::start() else {
        return;
    };
    let farm = farm();
    let mut pop = pop(&farm);
    terminal.line(&top(&pop.agents[0]));
    terminal.wait_for("4 origins:  ● 4 up");
    terminal.wait_for("node-1");
    terminal.wait_for("live");

    // What happens is shown without being asked for.
    farm.set_fault(2..3, Fault::Status(503)).unwrap();
    pop.wait_for(Down, 1, PATIENCE);
    terminal.wait_for("up -> ✕ down");
    terminal.wait_for("> shop-2");
    terminal.keys(&["Enter"]);
    let story = terminal.wait_for("runbook");
    assert!(
        story.contains("shop-2") && story.contains("bad_status"),
        "{story}"
    );
    terminal.keys(&["Escape"]);
    terminal.wait_for("MEMBER");
    terminal.keys(&["/"]);
    terminal.keys(&["-l", "shop-1"]);
    terminal.wait_for("search: shop-1_");
    terminal.keys(&["Enter"]);
    terminal.wait_for("> shop-1");
    terminal.keys(&["Escape"]);
    assert!(
        pop.agents[1]
            .ask(&["freeze", "--why", "works"])
            .status
            .success()
    );
    terminal.wait_for("FROZEN by");
    assert!(pop.agents[1].ask(&["unfreeze"]).status.success());
    terminal.wait("thawed", |screen| !screen.contains("FROZEN"));

    // Another size.
    terminal.tmux(&["resize-window", "-x", "120", "-y", "40"]);
    terminal.wait("wider", |screen| {
        screen.lines().any(|it| it.chars().count() > 90)
    });

    // An agent that ends is said, and waited for.
    pop.agents[0].kill();
    terminal.wait_for("NO ANSWER since");
    pop.agents[0].start();
    terminal.wait_for("live");
    terminal.keys(&["q"]);
    terminal.wait_for_shell();

    // By a signal, too.
    let line = format!("{}; echo status $?", top(&pop.agents[0]));
    terminal.line(&line);
    terminal.wait_for("live");
    let shell = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let child = Command::new("pgrep").args(["-P", shell.trim()]).output();
    let child = String::from_utf8(child.unwrap().stdout).unwrap();
    let child = nix::unistd::Pid::from_raw(child.trim().parse().unwrap());
    nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGTERM).unwrap();
    terminal.wait_for("status 143");
    terminal.wait_for_shell();
}

#[test]
fn where_there_is_no_terminal_one_frame_is_printed() {
    let farm = farm();
    let pop = pop(&farm);
    let agent = &pop.agents[0];
    let output = agent.ask(&["top"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("● 4 up"), "{text}");
    assert!(
        !text.contains('\u{1b}') && text.contains("node-1"),
        "{text}"
    );
    let output = agent.ask(&["top", "--json"]);
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["origins"]["name"].as_array().unwrap().len(), 4);
    assert_eq!(all["pop"]["members"].as_array().unwrap().len(), 2);
    let mut pop = pop;
    pop.agents[0].kill();
    let output = pop.agents[0].ask(&["top", "--once"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is it running?"));
}
