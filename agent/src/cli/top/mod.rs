//! `watchfire top`: the POP on a terminal, kept up to date.
//!
//! One thread asks the agent, one reads keys, one waits for signals; this one holds
//! the [`Model`], and draws it after each event.

mod filter;
mod model;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use crossbeam::channel::{Receiver, Sender, bounded};
use nix::sys::signal::{SigSet, Signal};
use ratatui::backend::{Backend as _, TestBackend};
use ratatui::crossterm::event::{self, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Terminal};

use self::model::{Event, Key, Model, Want, update};
use self::view::view;
use super::{Asking, Failure, why};
use crate::control::api::{self, Verb, WhyAsked};
use crate::control::screen::{Screen, ScreenAsked};
use crate::gossip::status::Why;

/// Events that wait to be drawn; whoever makes more waits.
const EVENTS: usize = 64;

/// When an agent that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The size of a frame where there is no terminal.
const FRAME: (u16, u16) = (100, 40);

#[derive(Args)]
#[command(
    after_help = "Keys: ? shows them, q quits. Verdicts have marks and words beside colours; \
                  NO_COLOR=1 takes the colours away.\n\n\
                  Where standard output is no terminal one frame is printed, as with --once; \
                  --json prints all that a frame is made of."
)]
pub(super) struct Options {
    /// Print one frame and end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    asking: Asking,
}

/// What wakes the loop.
enum Wake {
    Event(Event),
    /// Another size, or the like.
    Redraw,
    /// This process is to end.
    Signal(Signal),
    /// It cannot go on.
    Broken(String),
}

/// Tells of a thread that panics. Its message, and the terminal as it was, are there
/// already.
struct Fall(Sender<Wake>);

impl Drop for Fall {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Wake::Broken("a thread panicked".to_owned()));
        }
    }
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let socket = options.asking.agent.socket()?;
    if options.asking.format.json {
        let answer = api::ask(&socket, &Verb::Screen(ScreenAsked::default()))?;
        return super::print_json(&answer);
    }
    let is_screen = io::stdout().is_terminal() && std::env::var("TERM").as_deref() != Ok("dumb");
    if options.once || !is_screen {
        return once(&socket);
    }
    // Before any thread is started, so that none but the one that waits hears them.
    let ends: SigSet = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT]
        .into_iter()
        .collect();
    ends.thread_block()?;
    let (sender, wakes) = bounded(EVENTS);
    spawn("signals", &sender, move |sender| {
        if let Ok(signal) = ends.wait() {
            let _ = sender.send(Wake::Signal(signal));
        }
    })?;
    // A panic, on whichever thread, gives the terminal back before it is told.
    let mut terminal = ratatui::try_init()?;
    let ended = show(&mut terminal, &socket, &sender, &wakes);
    ratatui::restore();
    match ended? {
        None => Ok(()),
        // As the shell knows it.
        Some(signal) => std::process::exit(128 + signal as i32),
    }
}

/// Shows it until the user or a signal ends it.
fn show(
    terminal: &mut DefaultTerminal,
    socket: &Path,
    sender: &Sender<Wake>,
    wakes: &Receiver<Wake>,
) -> Result<Option<Signal>, Failure> {
    let feed = socket.to_owned();
    spawn("feed", sender, move |sender| follow(&feed, &sender))?;
    spawn("keys", sender, |sender| read_keys(&sender))?;
    let mut model = Model::default();
    loop {
        terminal.draw(|frame| view(&model, frame))?;
        let mut wake = wakes.recv()?;
        // All that has come is drawn at once.
        loop {
            match wake {
                Wake::Signal(signal) => return Ok(Some(signal)),
                Wake::Broken(why) => return Err(Failure::Error(why)),
                Wake::Redraw => {}
                Wake::Event(event) => {
                    let (next, want) = update(model, event);
                    model = next;
                    match want {
                        Some(Want::Quit) => return Ok(None),
                        Some(Want::Story(name)) => tell(socket.to_owned(), name, sender)?,
                        None => {}
                    }
                }
            }
            match wakes.try_recv() {
                Ok(next) => wake = next,
                Err(_) => break,
            }
        }
    }
}

/// One frame, as text.
fn once(socket: &Path) -> Result<(), Failure> {
    let answer = api::ask(socket, &Verb::Screen(ScreenAsked::default()))?;
    let screen: Screen = serde_json::from_value(answer)?;
    let (model, _) = update(Model::default(), Event::Screen(Box::new(screen)));
    let (wide, high) = match io::stdout().is_terminal() {
        true => ratatui::crossterm::terminal::size().unwrap_or(FRAME),
        false => FRAME,
    };
    let mut frame = Terminal::new(TestBackend::new(wide, high))?;
    frame.draw(|frame| view(&model, frame))?;
    let size = frame.backend().size()?;
    let cells = frame.backend().buffer().content();
    for row in cells.chunks(usize::from(size.width.max(1))) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        say!("{}", line.trim_end());
    }
    Ok(())
}

/// Asks the agent for what has changed, for ever.
fn follow(socket: &Path, sender: &Sender<Wake>) {
    let mut asked = ScreenAsked {
        follow: true,
        ..ScreenAsked::default()
    };
    loop {
        let answer = api::ask(socket, &Verb::Screen(asked.clone()));
        let screen: Result<Screen, String> = match answer {
            Ok(answer) => serde_json::from_value(answer).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let (event, pause) = match screen {
            Ok(screen) => {
                asked.life = Some(screen.life.clone());
                asked.version = screen.version;
                asked.last = screen.last;
                let pause = Duration::from_millis(screen.again_ms);
                (Event::Screen(Box::new(screen)), pause)
            }
            Err(error) => {
                let first = error.lines().next().unwrap_or_default();
                (Event::Lost(first.to_owned()), AGAIN)
            }
        };
        if sender.send(Wake::Event(event)).is_err() {
            return;
        }
        thread::sleep(pause);
    }
}

/// Asks what became of an origin.
fn tell(socket: PathBuf, name: String, sender: &Sender<Wake>) -> io::Result<()> {
    spawn("story", sender, move |sender| {
        let asked = WhyAsked {
            origin: name.clone(),
            at_ms: None,
        };
        let lines = match api::ask(&socket, &Verb::Why(asked)) {
            Ok(answer) => match serde_json::from_value::<Why>(answer) {
                Ok(why) => why::story(&why, why::Most::ALL),
                Err(error) => vec![error.to_string()],
            },
            Err(error) => error.to_string().lines().map(str::to_owned).collect(),
        };
        let _ = sender.send(Wake::Event(Event::Story(name, lines)));
    })
}

fn read_keys(sender: &Sender<Wake>) {
    loop {
        let wake = match event::read() {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => match key_of(key) {
                Some(key) => Wake::Event(Event::Key(key)),
                None => continue,
            },
            Ok(_) => Wake::Redraw,
            Err(error) => Wake::Broken(format!("cannot read keys: {error}")),
        };
        let is_end = matches!(wake, Wake::Broken(_));
        if sender.send(wake).is_err() || is_end {
            return;
        }
    }
}

fn key_of(key: event::KeyEvent) -> Option<Key> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Key::Interrupt),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Tab => Key::Tab,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Char(c) => Key::Char(c),
        _ => return None,
    })
}

/// Starts a thread that ends with the process.
fn spawn(
    name: &str,
    sender: &Sender<Wake>,
    work: impl FnOnce(Sender<Wake>) + Send + 'static,
) -> io::Result<()> {
    let sender = sender.clone();
    let thread = thread::Builder::new().name(name.to_owned());
    let fall = Fall(sender.clone());
    let work = move || {
        let _fall = fall;
        work(sender);
    };
    thread.spawn(work).map(drop)
}
