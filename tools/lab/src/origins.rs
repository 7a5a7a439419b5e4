//! The origins: one nginx that listens on every address of a network, and
//! whose access log says who probed what when.
//!
//! It runs at a real-time priority, so that it answers however busy the agents
//! are: what the lab judges is their verdicts, and an origin that starves on
//! the agents' processors would be the lab's fault. (Without the right to that
//! priority it is merely nice.)

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::clock::{self, Us};
use crate::net::{self, Net, ORIGIN_PORT};
use crate::scenario::Failure;
use crate::shell;

/// nginx's priority among real-time threads, below the lab's own.
const PRIORITY: &str = "5";

/// One nginx and what it makes fail.
pub(crate) struct Origins {
    dir: PathBuf,
    namespace: String,
    child: Child,
    /// How each origin fails now.
    failing: Vec<Option<Failure>>,
    /// How many sets of bad origins were made so far.
    sets: usize,
}

impl Origins {
    /// Starts nginx, all origins good.
    ///
    /// # Errors
    /// nginx is missing or does not start.
    pub(crate) fn start(net: &Net, dir: &Path, origins: usize) -> Result<Self> {
        let dir = dir.join("origins-nginx");
        fs::create_dir_all(dir.join("set-0"))?;
        std::os::unix::fs::symlink("set-0", dir.join("bad"))?;
        let conf = dir.join("nginx.conf");
        fs::write(&conf, configuration(&dir))?;
        let namespace = net.origins();
        let rules = "table inet origins {\n\
                     set silent { type ipv4_addr; }\nset refuse { type ipv4_addr; }\n\
                     chain in {\ntype filter hook input priority 0; policy accept;\n\
                     ip daddr @silent drop\n\
                     ip daddr @refuse meta l4proto tcp reject with tcp reset\n}\n}\n";
        nft(&namespace, rules)?;
        let shielded = shell::run(&["chrt", "-f", PRIORITY, "true"]).is_ok();
        let mut command = net::inside(&namespace);
        if shielded {
            command.args(["chrt", "-f", PRIORITY]);
        } else {
            command.args(["nice", "-n", "-20"]);
        }
        let child = command
            .args(["nginx", "-c"])
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("stderr"))?)
            .process_group(0)
            .spawn()
            .context("cannot start nginx: install the package nginx-light")?;
        let mut started = Self {
            dir,
            namespace,
            child,
            failing: vec![None; origins],
            sets: 0,
        };
        started.wait()?;
        Ok(started)
    }

    /// Waits until nginx has made its pid file, which it does when it listens.
    fn wait(&mut self) -> Result<()> {
        let until = clock::now() + 5 * clock::SECOND;
        while clock::now() < until {
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(self.dir.join("stderr")).unwrap_or_default();
                bail!("nginx ended at once ({status}): {}", said.trim());
            }
            if fs::metadata(self.dir.join("pid")).is_ok_and(|meta| meta.len() > 0) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("nginx did not begin to listen within 5 s")
    }

    /// The access log.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("access.log")
    }

    /// nginx's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes origins fail, all at one moment, which is returned.
    pub(crate) fn fail(&mut self, origins: &[usize], how: Failure) -> Result<Us> {
        for &origin in origins {
            self.failing[origin] = Some(how);
        }
        self.apply()
    }

    /// Makes origins good again, all at one moment, which is returned.
    pub(crate) fn heal(&mut self, origins: &[usize]) -> Result<Us> {
        for &origin in origins {
            self.failing[origin] = None;
        }
        self.apply()
    }

    /// Origins that fail now.
    pub(crate) fn failing(&self) -> Vec<usize> {
        (0..self.failing.len())
            .filter(|&origin| self.failing[origin].is_some())
            .collect()
    }

    /// Origins that answer an error lie as files in a folder, which is swapped
    /// whole; the others are in sets of nftables, which are as well.
    fn apply(&mut self) -> Result<Us> {
        self.sets += 1;
        let name = format!("set-{}", self.sets);
        let set = self.dir.join(&name);
        fs::create_dir_all(&set)?;
        for address in self.addresses(Failure::Status) {
            fs::write(set.join(address.to_string()), "")?;
        }
        let link = self.dir.join("bad.new");
        std::os::unix::fs::symlink(&name, &link)?;
        let mut rules = String::new();
        for (set, how) in [("silent", Failure::Silent), ("refuse", Failure::Refuse)] {
            rules += &format!("flush set inet origins {set}\n");
            let list: Vec<String> = self.addresses(how).map(|a| a.to_string()).collect();
            if !list.is_empty() {
                rules += &format!("add element inet origins {set} {{ {} }}\n", list.join(", "));
            }
        }
        nft(&self.namespace, &rules)?;
        let at = clock::now();
        fs::rename(&link, self.dir.join("bad"))?;
        let old = self.dir.join(format!("set-{}", self.sets - 1));
        // Files of a set that counts no more cost memory only.
        let _ = fs::remove_dir_all(old);
        Ok(at)
    }

    fn addresses(&self, how: Failure) -> impl Iterator<Item = Ipv4Addr> {
        let failing = self.failing.iter().enumerate();
        failing
            .filter(move |(_, failure)| **failure == Some(how))
            .map(|(origin, _)| net::origin_address(origin))
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        // One that is gone already is as dead.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nft(namespace: &str, rules: &str) -> Result<()> {
    let net = format!("--net=/run/netns/{namespace}");
    shell::feed(&["nsenter", &net, "nft", "-f", "-"], rules).map(|_| ())
}

/// One process (`master_process off`), so that it dies with the lab.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "daemon off;\nmaster_process off;\npid {dir}/pid;\nerror_log {dir}/error.log crit;\n\
         worker_rlimit_nofile 20000;\n\
         events {{ worker_connections 16000; multi_accept on; }}\n\
         http {{\n\
         log_format lab '$msec $remote_addr $server_addr $status';\n\
         access_log {dir}/access.log lab buffer=16k flush=100ms;\n\
         open_file_cache off;\n\
         server {{\n\
         listen {ORIGIN_PORT} backlog=16384;\n\
         location / {{\n\
         if (-f {dir}/bad/$server_addr) {{ return 503; }}\n\
         return 200 'ok';\n\
         }}\n}}\n}}\n"
    )
}
