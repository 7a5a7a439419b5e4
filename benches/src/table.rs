//! The table against memory itself, against maps in process and against
//! nginx's shared dictionary.
//!
//! Everything is measured as CPU time of one thread, in batches, and reported
//! as medians; what is compared runs in turns within one run, so that a busy
//! machine slows both sides.

mod nginx;

use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use watchfire_table::{Entry, Lookup, Reader, TableVerdict, Writer, WriterOptions, monotonic_ns};
use watchfire_wire::{Actor, NodeId};

/// Lookups per batch.
const BATCH: usize = 1 << 18;
/// Batches per measurement, of which the median counts.
const BATCHES: usize = 9;
/// Distinct names of the "hot" measurement.
const HOT: usize = 8;
/// Length of every name, bytes.
const NAME_BYTES: usize = 24;
/// Updates per second of the writer beside the reader.
const WRITES_PER_S: u64 = 100_000;
/// Entries that the writer of the torn-read hunt works on.
const HUNTED: u64 = 16;

type Name = [u8; NAME_BYTES];

/// Looks names up in the table, in maps and in bare memory.
#[derive(Debug, Parser)]
#[command(name = "table")]
struct Options {
    /// Names in the table.
    #[arg(long, default_value_t = 100_000)]
    names: usize,
    /// Reads of the torn-read hunt.
    #[arg(long, default_value_t = 1_000_000_000)]
    reads: u64,
    /// Measure nginx's shared dictionary too (needs libnginx-mod-http-lua).
    #[arg(long)]
    peers: bool,
    /// Print one JSON object on the last line.
    #[arg(long)]
    json: bool,
}

/// Runs `table` with the options after it.
///
/// # Errors
/// No room in memory for the table, or no nginx.
pub(crate) fn run(args: impl IntoIterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let args = std::iter::once("table".to_owned()).chain(args);
    let options = Options::try_parse_from(args).unwrap_or_else(|error| error.exit());
    let folder = tempfile::Builder::new()
        .prefix("watchfire-bench-")
        .tempdir_in("/dev/shm")?;
    let path = folder.path().join("table");
    let mut bench = Bench::new(&path, options.names.max(HOT))?;

    let hot_ns = bench.hot();
    let random = bench.random();
    let under_write_ratio = bench.under_write();
    let maps = bench.maps();
    let hunt = hunt_torn(&folder.path().join("hunted"), options.reads)?;
    let stat = bench.reader.stat(monotonic_ns()).ok_or("the table moved")?;
    let mut report = serde_json::json!({
        "names": options.names,
        "table_bytes": stat.file_bytes,
        "probe_length_mean": round(stat.probe_length_mean),
        "hot_ns": round(hot_ns),
        "random_ns": round(random.lookup_ns),
        "memory_read_ns": round(random.read_ns),
        "random_vs_memory_read": round(random.ratio),
        "under_write_ratio": round(under_write_ratio),
        "reads": hunt.reads,
        "reads_overtaken": hunt.overtaken,
        "writes": hunt.writes,
        "torn": hunt.torn,
        "vs_rwlock_hashmap": round(maps.rwlock),
        "vs_concurrent_map": round(maps.concurrent),
    });
    if options.peers {
        let peer = nginx::shared_dict(folder.path(), &path, options.names)?;
        report["nginx_table_ns"] = round(peer.repeated.table_ns).into();
        report["nginx_shared_dict_ns"] = round(peer.repeated.dict_ns).into();
        report["vs_shared_dict"] = round(peer.repeated.ratio).into();
        report["nginx_table_random_ns"] = round(peer.random.table_ns).into();
        report["nginx_shared_dict_random_ns"] = round(peer.random.dict_ns).into();
        report["vs_shared_dict_random"] = round(peer.random.ratio).into();
    }
    if !options.json {
        for (key, value) in report.as_object().into_iter().flatten() {
            println!("{key:>24} {value}");
        }
        return Ok(());
    }
    println!("{report}");
    Ok(())
}

/// One table, its writer and its reader, and a sequence of lookups.
struct Bench {
    writer: Writer,
    reader: Reader,
    /// The name of each lookup, in a row: the caller has its name at hand, and
    /// what is measured is the table.
    sequence: Vec<Name>,
    /// The index of each of these names.
    indexes: Vec<u32>,
    names: usize,
}

/// Uniform random lookups against bare memory.
struct Random {
    lookup_ns: f64,
    read_ns: f64,
    ratio: f64,
}

/// How many times faster the table is than maps in process.
struct Maps {
    rwlock: f64,
    concurrent: f64,
}

impl Bench {
    fn new(path: &Path, names: usize) -> Result<Self, Box<dyn Error>> {
        let mut options = WriterOptions::new(actor(), "bench");
        options.capacity = names;
        let mut writer = Writer::open(path, &options, monotonic_ns())?;
        for n in 0..names {
            writer.set(&name(n), &entry(n as u64))?;
        }
        let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
        let indexes: Vec<u32> = (0..BATCH)
            .map(|_| random.below(names as u64) as u32)
            .collect();
        Ok(Self {
            writer,
            reader: Reader::open(path)?,
            sequence: indexes.iter().map(|&n| name(n as usize)).collect(),
            indexes,
            names,
        })
    }

    /// Repeated names: nanoseconds per lookup.
    fn hot(&self) -> f64 {
        let names: [Name; HOT] = std::array::from_fn(name);
        let now_ns = monotonic_ns();
        median((0..BATCHES).map(|_| {
            per_item(BATCH, || {
                for i in 0..BATCH {
                    black_box(self.reader.get(black_box(&names[i % HOT]), now_ns));
                }
            })
        }))
    }

    /// Uniform random names, against one dependent random read over an array
    /// of the table's size: each waits for the one before it.
    fn random(&self) -> Random {
        let now_ns = monotonic_ns();
        let words = self.writer.view().geometry().words();
        let array = vec![0_u64; words];
        // Touched once, so that every page is there.
        let array: Vec<u64> = array.iter().map(|&word| black_box(word)).collect();
        let stride = words / self.names;
        let read = || {
            per_item(BATCH, || {
                let mut carried = 0_u64;
                for &index in &self.indexes {
                    let at = index as usize * stride + carried as usize;
                    carried = black_box(array[at]);
                }
                black_box(carried);
            })
        };
        let lookup = || lookups(&self.reader, &self.sequence, now_ns);
        let (mut lookups, mut reads, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..BATCHES {
            let (lookup_ns, read_ns) = (lookup(), read());
            lookups.push(lookup_ns);
            reads.push(read_ns);
            ratios.push(lookup_ns / read_ns);
        }
        Random {
            lookup_ns: median(lookups),
            read_ns: median(reads),
            ratio: median(ratios),
        }
    }

    /// The same lookups beside a writer of [`WRITES_PER_S`], over the same
    /// alone: the median of paired runs.
    fn under_write(&mut self) -> f64 {
        let (reader, sequence, writer) = (&self.reader, &self.sequence, &mut self.writer);
        let names = self.names as u64;
        let mut ratios = Vec::new();
        for _ in 0..BATCHES {
            let lookups = || lookups(reader, sequence, monotonic_ns());
            let alone = median((0..3).map(|_| lookups()));
            let stop = AtomicBool::new(false);
            let beside = std::thread::scope(|scope| {
                scope.spawn(|| pace(writer, names, &stop));
                std::thread::sleep(Duration::from_millis(5));
                let beside = median((0..3).map(|_| lookups()));
                stop.store(true, Ordering::Relaxed);
                beside
            });
            ratios.push(beside / alone);
        }
        median(ratios)
    }

    /// The same lookups in maps with their usual hashers.
    fn maps(&self) -> Maps {
        let entries = || (0..self.names).map(|n| (name(n).to_vec(), entry(n as u64)));
        let locked: RwLock<HashMap<Vec<u8>, Entry>> = RwLock::new(entries().collect());
        let concurrent: papaya::HashMap<Vec<u8>, Entry> = entries().collect();
        let now_ns = monotonic_ns();
        let (mut rwlock, mut papaya) = (Vec::new(), Vec::new());
        for _ in 0..BATCHES {
            let ours = lookups(&self.reader, &self.sequence, now_ns);
            let theirs = per_item(BATCH, || {
                let mut carried = 0;
                for name in &self.sequence {
                    let map = locked
                        .read()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    let found = map.get(&name[carried as usize..]).copied();
                    carried = black_box(u64::from(found.is_none()));
                }
                black_box(carried);
            });
            rwlock.push(theirs / ours);
            let theirs = per_item(BATCH, || {
                let mut carried = 0;
                for name in &self.sequence {
                    let map = concurrent.pin();
                    let found = map.get(&name[carried as usize..]).copied();
                    carried = black_box(u64::from(found.is_none()));
                }
                black_box(carried);
            });
            papaya.push(theirs / ours);
        }
        Maps {
            rwlock: median(rwlock),
            concurrent: median(papaya),
        }
    }
}

/// What the torn-read hunt saw.
struct Hunt {
    reads: u64,
    overtaken: u64,
    writes: u64,
    torn: u64,
}

/// One writer at full speed, one reader on the other core; every entry's
/// fields follow from one of them, so a torn one gives itself away.
fn hunt_torn(path: &Path, reads: u64) -> Result<Hunt, Box<dyn Error>> {
    let mut writer = Writer::open(path, &WriterOptions::new(actor(), "bench"), monotonic_ns())?;
    for n in 0..HUNTED {
        writer.set(&name(n as usize), &entry(n))?;
    }
    let reader = Reader::open(path)?;
    let stop = AtomicBool::new(false);
    let (hunt, writes) = std::thread::scope(|scope| {
        let stop = &stop;
        let writing = scope.spawn(move || {
            let names: Vec<Name> = (0..HUNTED).map(|n| name(n as usize)).collect();
            let mut n = HUNTED;
            while !stop.load(Ordering::Relaxed) {
                let index = (n % HUNTED) as usize;
                writer.set(&names[index], &entry(n))?;
                n += 1;
            }
            Ok::<u64, watchfire_table::TableError>(n)
        });
        let names: Vec<Name> = (0..HUNTED).map(|n| name(n as usize)).collect();
        let now_ns = monotonic_ns();
        let (mut torn, mut overtaken) = (0, 0);
        for n in 0..reads {
            let index = n % HUNTED;
            match reader.get(&names[index as usize], now_ns) {
                Lookup::Found { entry: found, .. } => {
                    let whole = found == entry(found.since_ms) && found.since_ms % HUNTED == index;
                    torn += u64::from(!whole);
                }
                Lookup::Busy { .. } => overtaken += 1,
                Lookup::NotInTable { .. } => torn += 1,
            }
        }
        stop.store(true, Ordering::Relaxed);
        ((torn, overtaken), writing.join())
    });
    let writes = writes.map_err(|_| "the writer's thread failed")??;
    Ok(Hunt {
        reads,
        overtaken: hunt.1,
        writes,
        torn: hunt.0,
    })
}

/// Updates random entries at the agreed rate until told to stop.
fn pace(writer: &mut Writer, names: u64, stop: &AtomicBool) {
    let mut random = Xorshift(77);
    let start = Instant::now();
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = start.elapsed().as_micros() as u64 * WRITES_PER_S / 1_000_000;
        while done < due {
            let n = random.below(names);
            // A known name's update needs no room and cannot fail.
            let _ = writer.set(&name(n as usize), &entry(n + done * names));
            done += 1;
        }
        writer.heartbeat(monotonic_ns());
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// One batch of lookups, each waiting for the one before it: nanoseconds per
/// lookup.
fn lookups(reader: &Reader, sequence: &[Name], now_ns: u64) -> f64 {
    per_item(sequence.len(), || {
        let mut carried = 0;
        for name in sequence {
            let found = reader.get(&name[carried as usize..], now_ns);
            carried = depend(&found);
        }
        black_box(carried);
    })
}

/// Zero, in a way that only the answer tells.
fn depend(found: &Lookup) -> u64 {
    match found {
        Lookup::Found { entry, .. } => black_box(entry.since_ms) >> 48,
        Lookup::NotInTable { .. } | Lookup::Busy { .. } => 1,
    }
}

/// CPU time of this thread per item, nanoseconds.
fn per_item(items: usize, work: impl FnOnce()) -> f64 {
    let before = thread_cpu_ns();
    work();
    (thread_cpu_ns() - before) / items as f64
}

fn thread_cpu_ns() -> f64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.map_or(0.0, |now| now.tv_sec() as f64 * 1e9 + now.tv_nsec() as f64)
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn name(n: usize) -> Name {
    let mut name = *b"origin-0000000.tenant-42";
    let digits = format!("{n:07}");
    name[7..14].copy_from_slice(&digits.as_bytes()[digits.len() - 7..]);
    name
}

/// An entry all of whose fields follow from one number.
fn entry(n: u64) -> Entry {
    let n = n & ((1 << 40) - 1);
    Entry {
        verdict: if n.is_multiple_of(2) {
            TableVerdict::Up
        } else {
            TableVerdict::Down
        },
        reason: (n % 251) as u8,
        since_ms: n,
        latency_us: (n as u32).wrapping_mul(2_654_435_761),
        ..Entry::default()
    }
}

fn actor() -> Actor {
    Actor {
        node: NodeId::of_name("bench"),
        epoch: 1,
        boot: 1,
    }
}

/// Numbers that look random, the same in every run: xorshift64*.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let random = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(random) * u128::from(bound)) >> 64) as u64
    }
}
