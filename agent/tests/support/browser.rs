//! Headless Chromium, driven by chromedriver over its own HTTP: what is on a page, and
//! what it asked for.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// One window, with a profile of its own. It ends with the test.
pub(crate) struct Browser {
    driver: Child,
    base: String,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it; nothing where there is no Chromium, which in CI is a failure.
    pub(crate) fn start(dark: bool) -> Option<Self> {
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut driver) = started else {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "chromedriver is not installed, and this test must run in CI"
            );
            eprintln!("skipped: no chromedriver");
            return None;
        };
        // It says which port it took once it listens there.
        let said = BufReader::new(driver.stdout.take().expect("its output is a pipe"));
        let mut lines = said.lines().map_while(Result::ok);
        let port: u16 = lines
            .find_map(|line| {
                let port = line.split_once("successfully on port ")?.1;
                port.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver says its port");
        // What it says later nobody reads, and it must not wait for that.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let mut args = vec![
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--window-size=1280,900".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        if dark {
            args.push("--force-dark-mode".to_owned());
        }
        let mut browser = Self {
            driver,
            base: format!("http://127.0.0.1:{port}"),
            session: String::new(),
            _profile: profile,
        };
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let made = browser.call("POST", "/session", &wanted);
        let id = made["sessionId"].as_str();
        browser.session = format!(
            "/session/{}",
            id.unwrap_or_else(|| panic!("no session: {made}"))
        );
        let scheme = if dark { "dark" } else { "light" };
        browser.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
        Some(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut curl = Command::new("curl")
            .args(["-s", "-X", method, "-H", "content-type: application/json"])
            .args(["--max-time", "60", "-d", "@-"])
            .arg(format!("{}{path}", self.base))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let text = body.to_string();
        curl.stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let output = curl.wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}: {output:?}"));
        answer["value"].clone()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.call("POST", &format!("{}{path}", self.session), body);
        assert!(answer.get("error").is_none(), "{path}: {answer}");
        answer
    }

    pub(crate) fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs the body of a function in the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true in the page.
    pub(crate) fn wait(&self, expression: &str, patience: Duration) {
        let began = Instant::now();
        while self.run(&format!("return Boolean({expression})")) != true {
            assert!(
                began.elapsed() < patience,
                "not {expression}:\n{}\n{:?}",
                self.run("return document.body.innerText"),
                self.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Types, wherever the focus is.
    pub(crate) fn type_keys(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
            })
            .collect();
        let source = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.post("/actions", &json!({ "actions": [source] }));
    }

    fn devtools(&self, command: &str, params: &Value) -> Value {
        self.post(
            "/goog/cdp/execute",
            &json!({ "cmd": command, "params": params }),
        )
    }

    /// The window as WebP.
    pub(crate) fn picture(&self) -> Vec<u8> {
        let params = json!({ "format": "webp", "quality": 70 });
        let picture = self.devtools("Page.captureScreenshot", &params);
        base64(picture["data"].as_str().unwrap())
    }

    /// What the page complained of since this was last asked.
    pub(crate) fn said(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().unwrap().iter();
        entries
            .map(|it| it["message"].as_str().unwrap().to_owned())
            .collect()
    }

    /// What it has asked for since this was last asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "performance" }));
        let entries = entries.as_array().unwrap().iter();
        let messages = entries.map(|it| {
            let message: Value = serde_json::from_str(it["message"].as_str().unwrap()).unwrap();
            message["message"].clone()
        });
        messages
            .filter(|it| it["method"] == "Network.requestWillBeSent")
            // The empty window that it begins with is its own.
            .filter(|it| {
                let page = it["params"]["documentURL"].as_str();
                !page.is_some_and(|page| page.starts_with("chrome:"))
            })
            .map(|it| it["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", &self.session, &json!({}));
        }
        // Chromium ends with it.
        super::signal(&self.driver, nix::sys::signal::Signal::SIGTERM);
        let _ = self.driver.wait();
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|byte| {
        let at = DIGITS.iter().position(|digit| *digit == byte)?;
        u32::try_from(at).ok()
    });
    let digits: Vec<u32> = digits.collect();
    digits
        .chunks(4)
        .flat_map(|four| {
            let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit);
            let bits = bits << (6 * (4 - four.len()));
            let bytes = bits.to_be_bytes();
            bytes[1..four.len()].to_vec()
        })
        .collect()
}
