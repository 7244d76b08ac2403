//! What is around every run: the servers it runs against, the CPUs, the progress, and where figures go.

use super::{
    BenchError, Common, ProtocolArg, Sink,
    bars::{self, Bar},
    floor::Variant,
    own::OwnServer,
    report,
    results::{self, Results},
};
use serde_json::{Value, json};
use std::process::ExitCode;

/// One server of a run, started here or found at a URL.
struct Server {
    name: String,
    url: String,
    pid: Option<u32>,
    command: String,
    /// Ends it when dropped.
    _own: Option<OwnServer>,
}

pub struct Harness {
    scenario: String,
    common: Common,
    servers: Vec<Server>,
    results: Option<Results>,
    runs: usize,
}

impl Harness {
    /// The server under test becomes number 0: the one at `--url`, or one of its own with `settings`.
    /// `spin`: the client should never sleep where it has a CPU for itself.
    ///
    /// # Errors
    /// [`BenchError`] when the server does not start or the results cannot be written.
    pub fn new(scenario: &str, common: &Common, spin: bool, settings: &[&str]) -> Result<Self, BenchError> {
        let mut harness = Self::empty(scenario, common, spin)?;
        if common.url.is_empty() {
            let cores = harness.common.server_cores.clone();
            harness.add_corecast("ours", &cores, settings)?;
        } else {
            let (name, url, pid) = ("server".to_owned(), common.url.clone(), common.server_pid);
            let command = "not started by the bench".to_owned();
            harness.servers.push(Server { name, url, pid, command, _own: None });
        }
        Ok(harness)
    }

    /// Without a server yet.
    ///
    /// # Errors
    /// [`BenchError::Output`] when the results cannot be written.
    pub fn empty(scenario: &str, common: &Common, spin: bool) -> Result<Self, BenchError> {
        let mut common = common.clone();
        let cpus = results::cpu_count();
        if common.url.is_empty() && cpus > 1 {
            if common.server_cores.is_empty() {
                common.server_cores.push(0);
            }
            let free = (1..cpus).chain([0]).find(|it| !common.server_cores.contains(it));
            common.client_core = common.client_core.or(free);
            let alone = common.client_core.is_some_and(|it| !common.server_cores.contains(&it));
            common.spin |= spin && alone && !common.no_spin;
        }
        // Machines that read JSON want no folder unless they say so.
        let results = match (&common.out, &common.json) {
            (None, Some(_)) => None,
            (out, _) => Some(Results::open(scenario, out.as_deref())?),
        };
        Ok(Self { scenario: scenario.to_owned(), common, servers: Vec::new(), results, runs: 0 })
    }

    /// Starts one more server of ours; returns its number.
    ///
    /// # Errors
    /// [`BenchError::OwnServer`].
    pub fn add_corecast(
        &mut self,
        name: &str,
        cores: &[usize],
        settings: &[&str],
    ) -> Result<usize, BenchError> {
        let own = settings.iter().map(|it| (*it).to_owned());
        let settings: Vec<String> = own.chain(self.common.server_set.iter().cloned()).collect();
        let server = OwnServer::corecast(cores, &settings, self.common.tls)?;
        Ok(self.add(name, server))
    }

    /// Starts one more server of ours behind TLS, whatever was asked for; returns its number.
    ///
    /// # Errors
    /// [`BenchError::OwnServer`].
    pub fn add_secure(
        &mut self,
        name: &str,
        cores: &[usize],
        settings: &[&str],
    ) -> Result<usize, BenchError> {
        let asked = std::mem::replace(&mut self.common.tls, true);
        let server = self.add_corecast(name, cores, settings);
        self.common.tls = asked;
        server
    }

    /// Starts the floors this kernel can run where a comparison makes sense: beside a server whose processor time is known, or for
    /// scenarios that need none (`always`). `kind` is what they are called. Returns their numbers.
    ///
    /// # Errors
    /// [`BenchError::OwnServer`].
    pub fn add_floors(&mut self, kind: &str, always: bool) -> Result<Vec<usize>, BenchError> {
        let known = always || self.servers.first().is_some_and(|it| it.pid.is_some());
        if !known {
            self.say("no floor: the processor time of this server is unknown (--server-pid)");
            return Ok(Vec::new());
        }
        let cores = self.common.server_cores.clone();
        let mut numbers = Vec::new();
        for (name, variant) in [("send", Variant::Send), ("io_uring", Variant::Uring)] {
            let server = match OwnServer::floor(variant, &cores) {
                Ok(server) => server,
                // Old kernels and containers have no ring: the other floor is one as well.
                Err(error) if variant == Variant::Uring => {
                    self.say(&format!("without the io_uring {kind}: {error}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            numbers.push(self.add(&format!("{kind} {name}"), server));
        }
        Ok(numbers)
    }

    /// Starts what only holds connections; returns its number.
    ///
    /// # Errors
    /// [`BenchError::OwnServer`].
    pub fn add_bare(&mut self, name: &str) -> Result<usize, BenchError> {
        let server = OwnServer::floor(Variant::Hold, &self.common.server_cores)?;
        Ok(self.add(name, server))
    }

    fn add(&mut self, name: &str, own: OwnServer) -> usize {
        let (name, url, pid) = (name.to_owned(), own.url(), Some(own.pid()));
        let command = own.command.clone();
        self.servers.push(Server { name, url, pid, command, _own: Some(own) });
        self.servers.len() - 1
    }

    #[must_use]
    pub fn name(&self, server: usize) -> &str {
        self.servers.get(server).map_or("", |it| &it.name)
    }

    /// Where a server is reached.
    #[must_use]
    pub fn url(&self, server: usize) -> String {
        self.servers.get(server).map_or_else(String::new, |it| it.url.clone())
    }

    #[must_use]
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// The options of a run on `server`; its figures land in `sink`.
    fn options(&self, server: usize, protocol: Option<ProtocolArg>, sink: &Sink) -> Common {
        let mut common = self.common.clone();
        let Some(server) = self.servers.get(server) else { return common };
        common.url.clone_from(&server.url);
        common.server_pid = server.pid;
        if server._own.is_some() {
            common.metrics_url = None;
        }
        common.protocol = protocol.unwrap_or(common.protocol);
        common.sink = Some(sink.clone());
        common
    }

    /// One run of `work` on `server`: its figures. `tag` says in the raw data what it belongs to.
    ///
    /// # Errors
    /// Those of the run; [`BenchError::Faults`] when its figures do not count.
    pub fn run(
        &mut self,
        server: usize,
        protocol: Option<ProtocolArg>,
        tag: &Value,
        work: &dyn Fn(Common) -> Result<ExitCode, BenchError>,
    ) -> Result<Value, BenchError> {
        let sink = Sink::default();
        let mut common = self.options(server, protocol, &sink);
        common.quiet = true;
        let status = work(common)?;
        let (value, text) = sink.take().ok_or(BenchError::Usage("the run had no figures"))?;
        self.runs += 1;
        let name = self.name(server).to_owned();
        if let Some(results) = &mut self.results {
            results.run(&json!({"run": self.runs, "server": name, "part_of": tag, "figures": value}))?;
        }
        if status != ExitCode::SUCCESS {
            return Err(BenchError::Faults { server: name, text });
        }
        Ok(value)
    }

    /// A line of its own in the raw data.
    ///
    /// # Errors
    /// [`BenchError::Output`].
    pub fn note(&mut self, line: &Value) -> Result<(), BenchError> {
        self.results.as_mut().map_or(Ok(()), |it| it.run(line))
    }

    /// A line of progress.
    pub fn say(&self, line: &str) {
        if !self.common.quiet {
            eprintln!("{line}");
        }
    }

    /// Writes the summary, with its bars, and the plot; shows the summary, or `rows` where JSON was asked for.
    ///
    /// # Errors
    /// [`BenchError::Output`].
    pub fn finish(
        &mut self,
        summary: &str,
        plot: Option<String>,
        rows: &Value,
        bars: &[Bar],
    ) -> Result<(), BenchError> {
        let summary = if bars.is_empty() {
            summary.to_owned()
        } else {
            format!("{summary}\n## Bars\n\n{}", bars::table(bars))
        };
        self.save(&summary, plot, bars, rows)?;
        let root = json!({
            "scenario": self.scenario,
            "version": env!("CARGO_PKG_VERSION"),
            "rows": rows,
            "bars": bars::json(bars),
        });
        report::emit(&root, &summary, self.common.json.as_deref())
    }

    /// Bars and rows end the raw data: without that line a run has not finished.
    fn save(
        &mut self,
        summary: &str,
        plot: Option<String>,
        bars: &[Bar],
        rows: &Value,
    ) -> Result<(), BenchError> {
        let Some(results) = &mut self.results else { return Ok(()) };
        let plotted = if plot.is_some() { "\n![plot](plot.svg)\n" } else { "" };
        results.write(
            "SUMMARY.md",
            &format!("{summary}{plotted}\nHow it was measured: [SETUP.md](SETUP.md).\n"),
        )?;
        if let Some(plot) = plot {
            results.write("plot.svg", &plot)?;
        }
        results.run(&json!({"bars": bars::json(bars), "rows": rows}))?;
        let folder = results.folder().display().to_string();
        self.say(&format!("results: {folder}"));
        Ok(())
    }

    /// Writes down the setup; to be called when all servers run and nothing is measured yet.
    ///
    /// # Errors
    /// [`BenchError::Output`].
    pub fn setup(&self) -> Result<(), BenchError> {
        let Some(results) = &self.results else { return Ok(()) };
        let commands: Vec<_> = self.servers.iter().map(|it| (it.name.clone(), it.command.clone())).collect();
        results.write("SETUP.md", &results::setup(&self.common, &commands))
    }

    /// `2 × AMD EPYC, server on 1 CPU`: what every summary says about where its figures come from.
    #[must_use]
    pub fn hardware(&self) -> String {
        let cores = self.common.server_cores.len();
        let server = match (self.common.url.is_empty(), cores) {
            (false, _) => "server not started by the bench".to_owned(),
            (true, 0) => "server on all CPUs".to_owned(),
            (true, 1) => "server on 1 CPU".to_owned(),
            (true, _) => format!("server on {cores} CPUs"),
        };
        format!("{} × {}, {server}, client on the same machine", results::cpu_count(), results::cpu_model())
    }
}

/// One run of a scenario that has nothing to compare with: starts a server where no URL is given, keeps the
/// figures, shows them beside their `bars`. `work` is the scenario; `settings` are what its own server needs.
///
/// # Errors
/// Those of the run.
pub fn single(
    scenario: &str,
    common: &Common,
    spin: bool,
    settings: &[&str],
    bars: &dyn Fn(&Value) -> Vec<Bar>,
    work: &dyn Fn(Common) -> Result<ExitCode, BenchError>,
) -> Result<ExitCode, BenchError> {
    let mut harness = Harness::new(scenario, common, spin, settings)?;
    harness.setup()?;
    let sink = Sink::default();
    let status = work(harness.options(0, None, &sink))?;
    let Some((value, text)) = sink.take() else { return Ok(status) };
    let line = json!({"run": 1, "server": harness.name(0), "figures": value});
    harness.note(&line)?;
    let bars = bars(&value);
    let table = bars::table(&bars);
    let summary = format!("# {scenario}\n\n{}.\n\n```\n{text}```\n\n{table}", harness.hardware());
    harness.save(&summary, super::latency::single_plot(scenario, &value), &bars, &value)?;
    report::emit(&value, &format!("{text}\n{table}"), common.json.as_deref())?;
    Ok(status)
}
