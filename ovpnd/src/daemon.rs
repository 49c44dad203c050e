// SPDX-License-Identifier: GPL-2.0-or-later
//! `ovpnd`: one thread, one poll loop over signals, the kernel's notifications, the resolver's answers and
//! ubus.

use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ovpn_netlink::Rtnl;
use serde_json::{Value, json};

use crate::api::{self, Args, Change, Refusal};
use crate::config::overlay::Overlay;
use crate::config::{Config, Globals, Problem};
use crate::diag::gather::gather;
use crate::diag::{self, diagnose};
#[cfg(feature = "tls")]
use crate::jobs::Jobs;
use crate::kernel::{Kernel, Netlink};
use crate::killswitch;
use crate::reconcile::{Ask, Reconciler, news, routes};
use crate::resolver::Resolver;
use crate::retry::Retry;
use crate::switches::{self, Switches};
use crate::ubus::{Bus, Call, Method, Reply};
use crate::uci;

mod switch;
mod turn;

const HELP: &str = "\
ovpnd - OpenVPN daemon for the kernel's data path driver

USAGE
  ovpnd [OPTIONS]

OPTIONS
  --config-dir DIR     where the UCI files `network` and `ovpnd` are (/etc/config)
  --ubus-socket PATH   where the ubus broker listens (/var/run/ubus/ubus.sock)
  --no-ubus            stay off the bus
  --key-dir DIR        where key files are made by ubus calls (/etc/ovpn)
  --state-dir DIR      where it is kept which interfaces are to be up (/var/run/ovpnd)
  --netifd             OpenWrt's netifd starts the interfaces and sets their addresses and routes; without it, ovpnd does
  --killswitch         print the rules that `nft -f` is to load for interfaces with `option killswitch '1'`, and end
  --check              read the configuration, name all faults in it, and end: status 1 if there are any
  --help, --version

It stays in the foreground and logs to stderr. SIGHUP and `ubus call ovpnd reload` read the configuration again
and change what changed; SIGTERM and SIGINT remove all interfaces it made and end it.

Static keys repeat nonces after every restart and are for tests: a peer that has one must say
`option insecure_static_key '1'`.
";

/// netifd's handler of our protocol. Where it is, the configuration is checked as with `--netifd`.
const HANDLER: &str = "/lib/netifd/proto/openvpn_dco.sh";
/// netifd's object for all interfaces.
const NETIFD: &str = "network.interface";
/// procd's object, which has the services that wait for a change of a configuration reload.
const PROCD: &str = "service";

/// Longest wait for a driver that is not there yet.
const LONGEST_DRIVER_WAIT: Duration = Duration::from_secs(60);

struct Options {
    config_dir: PathBuf,
    ubus_socket: Option<String>,
    key_dir: PathBuf,
    state_dir: PathBuf,
    check: bool,
    killswitch: bool,
    /// netifd sets addresses and routes, and says which interfaces are to be up.
    netifd: bool,
}

/// Logs to stderr, which procd hands on with a time.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // Texts may quote the configuration or the kernel: one message is one line.
        let text = record.args().to_string();
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let level = record.level().as_str().to_lowercase();
        let _ = writeln!(io::stderr(), "ovpnd: {level}: {text}");
    }

    fn flush(&self) {}
}

/// Runs the daemon with the command line `args`, without the program's name.
pub fn main(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let options = match options(args) {
        Ok(Ok(options)) => options,
        Ok(Err(text)) => {
            // A closed pipe is no reason to panic.
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("ovpnd: {message} (see ovpnd --help)");
            return ExitCode::from(2);
        }
    };
    log::set_max_level(log::LevelFilter::Info);
    // Only a second logger in the same process could make this fail.
    let _ = log::set_logger(&Stderr);
    if options.killswitch {
        return killswitch(&options.config_dir);
    }
    if options.check {
        let netifd = options.netifd || Path::new(HANDLER).exists();
        let config = Config::load(&options.config_dir, &Overlay::default(), netifd);
        let faultless = report(&config);
        return if routable(&config) && faultless {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    match Daemon::new(options).and_then(Daemon::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Options, or a text to print instead.
fn options(
    mut args: impl Iterator<Item = std::ffi::OsString>,
) -> Result<Result<Options, &'static str>, String> {
    let mut options = Options {
        config_dir: "/etc/config".into(),
        ubus_socket: Some("/var/run/ubus/ubus.sock".into()),
        key_dir: "/etc/ovpn".into(),
        state_dir: switches::DIR.into(),
        check: false,
        killswitch: false,
        netifd: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .ok_or_else(|| format!("the value of {arg:?} is missing"))
        };
        match arg.to_str() {
            Some("--config-dir") => options.config_dir = value()?.into(),
            Some("--ubus-socket") => {
                let path = value()?
                    .into_string()
                    .map_err(|path| format!("{path:?} is not UTF-8"))?;
                options.ubus_socket = Some(path);
            }
            Some("--key-dir") => options.key_dir = value()?.into(),
            Some("--state-dir") => options.state_dir = value()?.into(),
            Some("--no-ubus") => options.ubus_socket = None,
            Some("--killswitch") => options.killswitch = true,
            Some("--check") => options.check = true,
            Some("--netifd") => options.netifd = true,
            Some("--help" | "-h") => return Ok(Err(HELP)),
            Some("--version" | "-V") => {
                return Ok(Err(concat!("ovpnd ", env!("CARGO_PKG_VERSION"), "\n")));
            }
            _ => return Err(format!("unknown option {arg:?}")),
        }
    }
    if options.netifd && options.ubus_socket.is_none() {
        return Err("--netifd needs the bus, which --no-ubus stays off".into());
    }
    Ok(Ok(options))
}

/// Logs what is wrong with a configuration; whether nothing is.
fn report(config: &Config) -> bool {
    let (faults, warnings) = config.all_problems();
    for warning in warnings {
        log::warn!("{warning}");
    }
    for fault in &faults {
        log::error!("{fault}");
    }
    faults.is_empty()
}

/// Prints the rules of the kill switch. Without them the ones that are loaded stay.
fn killswitch(dir: &Path) -> ExitCode {
    let read = |name: &str| {
        let path = dir.join(name);
        let bytes = std::fs::read(&path);
        bytes.inspect_err(|error| log::error!("{}: {error}", path.display()))
    };
    let Ok(network) = read("network") else {
        return ExitCode::FAILURE;
    };
    // Without a firewall there are no zones, and what comes from anywhere is meant.
    let firewall = read("firewall").unwrap_or_default();
    let rules = killswitch::rules(&uci::File::parse(&network), &uci::File::parse(&firewall));
    match io::stdout().write_all(rules.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Logs which peers would have no route as the machine is now; whether there are none. Names are not looked up.
fn routable(config: &Config) -> bool {
    let Ok(mut rtnl) = Rtnl::open() else {
        return true;
    };
    let mut all = true;
    for (name, entry) in &config.interfaces {
        let own = rtnl.link(name).ok().map(|link| link.index);
        let mut way = |ip| {
            let way = rtnl.way(ip).ok()?;
            Some(routes::Way {
                prefix_len: way.prefix_len,
                inside: own.is_some() && way.ifindex == own,
            })
        };
        let interface = entry.interface.iter();
        for (peer, why) in interface.flat_map(|interface| routes::refused(interface, &mut way)) {
            log::error!("{name}: peer {peer}: {why}");
            all = false;
        }
    }
    all
}

struct Daemon {
    options: Options,
    /// Key files that go once no section names them.
    doomed: Vec<PathBuf>,
    switches: Switches,
    started: Instant,
    engine: Reconciler<Netlink>,
    globals: Globals,
    /// Changes of peers by ubus.
    overlay: Overlay,
    resolver: Resolver,
    #[cfg(feature = "tls")]
    jobs: Jobs,
    bus: Option<Bus>,
    signals: SignalFd,
    /// The driver was not there at the last attempt.
    driver: Retry,
    driver_error: Option<String>,
    stats_at: Option<Instant>,
    /// The kernel may have more to say than the last turn took.
    more: bool,
    ending: bool,
}

impl Daemon {
    fn new(options: Options) -> io::Result<Self> {
        // Keys are in memory: no core files, and no debugger of another user's.
        nix::sys::prctl::set_dumpable(false)?;
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT] {
            signals.add(signal);
        }
        // Before the first thread: threads inherit it, and signals must only come by the descriptor.
        signals.thread_block()?;
        Ok(Self {
            started: Instant::now(),
            switches: Switches::new(options.state_dir.clone(), options.netifd),
            engine: Reconciler {
                netifd: options.netifd,
                ..Reconciler::new(Netlink::new(options.netifd))
            },
            globals: Globals::default(),
            overlay: Overlay::default(),
            resolver: Resolver::new()?,
            #[cfg(feature = "tls")]
            jobs: Jobs::new()?,
            bus: options.ubus_socket.clone().map(Bus::new),
            signals: SignalFd::with_flags(
                &signals,
                SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
            )?,
            driver: Retry::new(LONGEST_DRIVER_WAIT),
            driver_error: None,
            stats_at: None,
            more: false,
            ending: false,
            doomed: Vec::new(),
            options,
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.reload();
        while !self.ending {
            self.due(Instant::now());
            self.wait()?;
            self.signals()?;
            self.events();
            self.calls();
            self.tell();
        }
        self.engine.shut_down(Instant::now());
        self.tell();
        log::info!("ended");
        Ok(())
    }

    /// Reads the configuration and brings everything to it. Returns its faults and warnings.
    fn reload(&mut self) -> (Vec<Problem>, Vec<Problem>) {
        let config = Config::load(&self.options.config_dir, &self.overlay, self.options.netifd);
        let said = self.configure(config);
        // The changes that were to take their sections away are there, or were given up.
        self.tidy();
        self.doomed.clear();
        said
    }

    /// Deletes the files that are to go and that no section names.
    fn tidy(&mut self) {
        if let (false, Ok(text)) = (
            self.doomed.is_empty(),
            fs::read(self.options.config_dir.join("network")),
        ) {
            self.doomed = api::tidy(&uci::File::parse(&text), &self.doomed);
        }
    }

    /// Deletes a file or an authority once no section names it: at once, or at the next reload.
    fn doom(&mut self, path: Result<PathBuf, Refusal>) -> Result<Value, Refusal> {
        self.doomed.push(path?);
        self.tidy();
        Ok(json!({ "ok": true }))
    }

    fn configure(&mut self, mut config: Config) -> (Vec<Problem>, Vec<Problem>) {
        let now = Instant::now();
        self.switches.read(&mut config);
        self.globals = config.globals;
        log::set_max_level(self.globals.log_level);
        self.stats_at = self.stats_after(now);
        report(&config);
        let list = |list: Vec<&Problem>| list.into_iter().cloned().collect();
        let (faults, warnings) = config.all_problems();
        let said = (list(faults), list(warnings));
        self.driver.succeeded();
        self.open_driver(now);
        self.engine.configure(config, now);
        said
    }

    fn stats_after(&self, now: Instant) -> Option<Instant> {
        let seconds = Some(self.globals.stats_interval).filter(|seconds| *seconds != 0)?;
        Some(now + Duration::from_secs(seconds.into()))
    }

    fn open_driver(&mut self, now: Instant) {
        if let Err(failure) = self.engine.kernel.open() {
            let level = news(self.driver_error.as_ref(), &failure.message);
            log::log!(level, "{}", failure.message);
            self.driver_error = Some(failure.message);
            self.driver.failed(now);
        } else {
            self.driver_error = None;
            self.driver.succeeded();
        }
    }

    /// Does what time has come for.
    fn due(&mut self, now: Instant) {
        if self.driver.at().is_some_and(|at| at <= now) {
            self.open_driver(now);
        }
        self.engine.wake(now);
        for lookup in self.engine.lookups(now) {
            self.resolver.start(lookup);
        }
        if let Some(bus) = &mut self.bus {
            bus.wake(now);
        }
        if self.stats_at.is_some_and(|at| at <= now) {
            self.log_counters();
            self.stats_at = self.stats_after(now);
        }
    }

    /// Waits for something to happen or to become due.
    fn wait(&self) -> io::Result<()> {
        let bus = self.bus.as_ref();
        let waits = [
            self.driver.at(),
            self.engine.next_wait(),
            bus.and_then(Bus::next_wait),
            self.stats_at,
        ];
        let timeout = turn::timeout(waits, self.more, Instant::now());
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.resolver.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(
            self.engine
                .kernel
                .fds()
                .into_iter()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        #[cfg(feature = "tls")]
        fds.push(PollFd::new(self.jobs.as_fd(), PollFlags::POLLIN));
        #[cfg(feature = "tls")]
        fds.extend(
            self.engine
                .clients
                .fds()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        fds.extend(bus.and_then(Bus::fd).map(|(fd, writes)| {
            let out = if writes {
                PollFlags::POLLOUT
            } else {
                PollFlags::empty()
            };
            PollFd::new(fd, PollFlags::POLLIN | out)
        }));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.read_signal()? {
            if signal.ssi_signo == Signal::SIGHUP as u32 {
                self.reload();
            } else {
                self.ending = true;
            }
        }
        Ok(())
    }

    /// Takes in what the resolver and the kernel have to say.
    fn events(&mut self) {
        let now = Instant::now();
        while let Some(answer) = self.resolver.answer() {
            self.engine.resolved(answer, now);
        }
        #[cfg(feature = "tls")]
        self.worked();
        #[cfg(feature = "tls")]
        self.engine.clients.serve(&mut self.engine.kernel, now);
        self.notifications(now);
    }

    fn calls(&mut self) {
        let now = Instant::now();
        let calls = self
            .bus
            .as_mut()
            .map(|bus| bus.serve(now))
            .unwrap_or_default();
        for call in calls {
            let reply = self.answer(&call, now);
            if let (Some(bus), Some(reply)) = (&mut self.bus, reply) {
                bus.reply(call.from, &reply, now);
            }
        }
    }

    /// Tells what there is to tell.
    fn tell(&mut self) {
        let now = Instant::now();
        self.ask_netifd(now);
        #[cfg(feature = "tls")]
        self.engine
            .notices
            .append(&mut self.engine.clients.notices());
        for notice in std::mem::take(&mut self.engine.notices) {
            let (name, data) = api::notice(&notice);
            if let Some(bus) = &mut self.bus {
                bus.notify(name, &data, now);
            }
        }
    }

    /// Asks netifd for what follows from changes of the interfaces, once it can be heard.
    fn ask_netifd(&mut self, now: Instant) {
        let Some(bus) = self.bus.as_mut().filter(|bus| bus.is_serving()) else {
            return;
        };
        for (name, ask) in self.engine.asks() {
            let methods: &[&'static str] = match ask {
                Ask::Renew => &["renew"],
                // As the command ifup does.
                Ask::Restart => &["down", "up"],
            };
            log::debug!("{name}: netifd is asked: {methods:?}");
            for method in methods {
                bus.call(NETIFD, method, json!({ "interface": name }), now);
            }
        }
    }

    /// Answers the calls whose work has ended.
    #[cfg(feature = "tls")]
    fn worked(&mut self) {
        while let Some(done) = self.jobs.done() {
            if done.changed {
                // Ends the sessions of clients that may not stay.
                self.reload();
            }
            if let Some(bus) = &mut self.bus {
                bus.reply(done.to, &done.reply, Instant::now());
            }
        }
    }

    /// Starts a call that takes longer than the loop may wait, or says why not.
    #[cfg(feature = "tls")]
    fn work(&mut self, call: &Call) -> Option<Reply> {
        let mut found = None;
        let reply = api::with_args(call.args.as_ref(), |args| {
            found = api::Task::read(call.method, args)?;
            Ok(json!({}))
        });
        let Some(task) = found else {
            return Some(reply);
        };
        let (keys, config) = (
            self.options.key_dir.clone(),
            self.options.config_dir.clone(),
        );
        let started = self.jobs.start(call.from, move || {
            let done = task.run(&keys, &config);
            let changed = matches!(done, Ok((_, true)));
            (api::reply(done.map(|(answer, _)| answer)), changed)
        });
        let refused = |why: String| api::reply(Err::<Value, _>(Refusal::busy(why)));
        started.err().map(refused)
    }

    #[cfg(not(feature = "tls"))]
    fn work(&mut self, _: &Call) -> Option<Reply> {
        let why = "this build is without TLS: install ovpnd instead of ovpnd-mini";
        Some(api::reply(Err::<Value, _>(Refusal::not_here(why))))
    }

    /// Answers a call; none when the answer comes later.
    fn answer(&mut self, call: &Call, now: Instant) -> Option<Reply> {
        let args = call.args.as_ref();
        if matches!(
            call.method,
            Method::Status
                | Method::Interfaces
                | Method::Peers
                | Method::PeerDisconnect
                | Method::PeerAdd
                | Method::PeerSet
                | Method::PeerDel
                | Method::Diag
        ) {
            self.engine.survey(now);
        }
        Some(match call.method {
            Method::Status => {
                let driver = self.engine.kernel.open();
                api::reply(Ok(api::status(
                    &self.engine,
                    driver,
                    self.started.elapsed(),
                    self.bus.as_ref().map_or(0, Bus::events_lost),
                )))
            }
            Method::Interfaces => api::with_args(args, |args| {
                api::interfaces(&mut self.engine, &self.overlay, args)
            }),
            Method::Peers => api::with_args(args, |args| {
                api::peers(&mut self.engine, &self.overlay, args, now)
            }),
            Method::PeerAdd => api::with_args(args, |args| self.change(Change::Add, args)),
            Method::PeerSet => api::with_args(args, |args| self.change(Change::Set, args)),
            Method::PeerDel => api::with_args(args, |args| self.change(Change::Delete, args)),
            Method::PeerDisconnect => {
                api::with_args(args, |args| api::disconnect(&mut self.engine, args, now))
            }
            Method::PushUpdate => {
                api::with_args(args, |args| api::push_update(&mut self.engine, args))
            }
            Method::Answer => api::with_args(args, |args| api::answer(&mut self.engine, args, now)),
            Method::KeyGenerate => {
                api::with_args(args, |args| api::generate(&self.options.key_dir, args))
            }
            Method::KeyImport => {
                api::with_args(args, |args| api::import(&self.options.key_dir, args))
            }
            Method::Up => api::with_args(args, |args| self.up(args, now)),
            Method::Down => api::with_args(args, |args| self.down(args, now)),
            Method::ProfileImport => api::with_args(args, |args| self.import(args, now)),
            Method::KeyDelete => api::with_args(args, |args| {
                self.doom(api::delete(&self.options.key_dir, args))
            }),
            Method::CaDelete => api::with_args(args, |args| {
                self.doom(api::delete_all(&self.options.key_dir, args))
            }),
            Method::CaInit
            | Method::CaList
            | Method::CaRevoke
            | Method::ProfileExport
            | Method::UserList
            | Method::UserSet
            | Method::UserDel => return self.work(call),
            Method::Start => api::with_args(args, |args| self.switch(args, true, now)),
            Method::Stop => api::with_args(args, |args| self.switch(args, false, now)),
            Method::Reload => api::with_args(args, |args| {
                if args.switch("discard")? {
                    self.overlay = Overlay::default();
                }
                let resolve = args.switch("resolve")?;
                let (problems, warnings) = self.reload();
                if resolve {
                    self.engine.look_up_again();
                }
                Ok(json!({
                    "ok": problems.is_empty(),
                    "problems": api::problems(&problems),
                    "warnings": api::problems(&warnings),
                }))
            }),
            Method::Diag => api::with_args(args, |args| {
                let only = args.text("interface")?;
                let driver = self.engine.kernel.open();
                let facts = gather(&mut self.engine, driver, &self.options.config_dir);
                let mut subjects = diagnose(&facts);
                subjects.retain(|subject| only.is_none_or(|only| only == subject.name));
                Ok(diag::json(&facts, &subjects))
            }),
            Method::Lint => api::with_args(args, |args| Ok(diag::lint(args.needed("text")?))),
        })
    }

    /// Takes a profile, and has procd tell those who read the configuration that it is another one now.
    fn import(&mut self, args: Args<'_>, now: Instant) -> Result<Value, Refusal> {
        let Options {
            key_dir,
            config_dir,
            ..
        } = &self.options;
        let (answer, package) = api::take_profile(key_dir, config_dir, args)?;
        if let Some(package) = package {
            let changed = json!({ "type": "config.change", "data": { "package": package } });
            if let Some(bus) = &mut self.bus {
                bus.call(PROCD, "event", changed, now);
            }
            self.reload();
        }
        Ok(answer)
    }

    fn change(&mut self, kind: Change, args: Args<'_>) -> Result<Value, Refusal> {
        let dir = &self.options.config_dir;
        let (overlay, config) = api::change(&self.engine, dir, &self.overlay, kind, args)?;
        self.overlay = overlay;
        self.configure(config);
        Ok(json!({ "ok": true }))
    }

    fn log_counters(&mut self) {
        let names: Vec<String> = self.engine.interfaces.keys().cloned().collect();
        for name in names {
            for peer in self.engine.kernel.peers(&name).unwrap_or_default() {
                let (vpn, link) = (peer.vpn, peer.link);
                log::info!(
                    "{name}: peer {}: tunnel {} B in, {} B out; transport {} B in, {} B out",
                    peer.id,
                    vpn.rx_bytes,
                    vpn.tx_bytes,
                    link.rx_bytes,
                    link.tx_bytes
                );
            }
        }
    }
}
