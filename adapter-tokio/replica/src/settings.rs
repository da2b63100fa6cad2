//! What an operator can choose: a configuration file, and the arguments that stand in place of its values.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use slotcast_tokio::slotcast::config::{ChannelConfig, Config, Relay};
use slotcast_tokio::slotcast::id::ChannelId;

use crate::Failure;
use crate::args::{RelayFiles, Run};
use crate::log::LogTimes;
use crate::probe;

/// The channel of a replica whose configuration has none. Its bounds are the same at all members.
const FILES: ChannelId = ChannelId(1);

/// Files of others that a replica passes on with `--relay spread`: as many as it publishes at most.
const RELAYED_MAX: u32 = 1024;

/// Which adapter runs the node.
#[derive(Clone, Copy, Debug, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Runtime {
    #[default]
    Tokio,
    Smol,
}

impl Runtime {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
        }
    }
}

/// The configuration file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    key: Option<PathBuf>,
    listen: Option<SocketAddr>,
    topology: Option<PathBuf>,
    publish: Option<PathBuf>,
    received: Option<PathBuf>,
    runtime: Option<Runtime>,
    log_times: Option<LogTimes>,
    metrics: Option<SocketAddr>,
    qlog: Option<PathBuf>,
    trace: Option<PathBuf>,
    node: Config,
}

/// What a replica is to do.
pub(crate) struct Settings {
    pub(crate) key: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) topology: PathBuf,
    pub(crate) publish: PathBuf,
    pub(crate) received: PathBuf,
    pub(crate) runtime: Runtime,
    pub(crate) log_times: LogTimes,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) qlog: Option<PathBuf>,
    pub(crate) trace: Option<PathBuf>,
    /// Has at least one channel, and the route of the probe.
    pub(crate) node: Config,
}

impl Settings {
    /// The arguments, and for what they leave out the file that they name.
    pub(crate) fn new(run: &Run) -> Result<Self, Failure> {
        let file = run.config.as_deref().map_or_else(|| Ok(File::default()), read)?;
        let folder = run.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let path = |argument: &Option<PathBuf>, value: Option<PathBuf>, name| {
            let value = argument.clone().or_else(|| value.map(|path| folder.join(path)));
            value.filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| missing(name))
        };
        let mut settings = Self {
            key: path(&run.key, file.key, "key")?,
            listen: run.listen.or(file.listen).ok_or_else(|| missing("listen"))?,
            topology: path(&run.topology, file.topology, "topology")?,
            publish: path(&run.publish, file.publish, "publish")?,
            received: path(&run.received, file.received, "received")?,
            runtime: run.runtime.or(file.runtime).unwrap_or_default(),
            log_times: run.log_times.or(file.log_times).unwrap_or_default(),
            metrics: run.metrics.or(file.metrics),
            qlog: run.qlog.clone().or(file.qlog.map(|path| folder.join(path))),
            trace: run.trace.clone().or(file.trace.map(|path| folder.join(path))),
            node: file.node,
        };
        settings.complete(run.relay)?;
        Ok(settings)
    }

    /// What the node needs that was not said.
    fn complete(&mut self, relay: RelayFiles) -> Result<(), Failure> {
        let Config { channels, routes, .. } = &mut self.node;
        if channels.is_empty() {
            channels.push(ChannelConfig::new(FILES));
        }
        if relay == RelayFiles::Spread {
            for channel in channels {
                *channel = channel.clone().relaying(Relay::Automatic, RELAYED_MAX);
            }
        }
        if let Some(other) = routes.iter().find(|route| route.id != probe::PROBE) {
            let (other, probe) = (other.id.0, probe::PROBE.0);
            return Err(Failure::Start(format!(
                "route {other}: a replica has one route only, {probe}, which answers probes"
            )));
        }
        if routes.is_empty() {
            routes.push(probe::route());
        }
        self.node.check().map_err(|error| Failure::Start(format!("configuration: {error}")))
    }
}

fn missing(name: &str) -> Failure {
    Failure::Start(format!(
        "`{name}` is missing: give --{name}, or --config with a file that has it"
    ))
}

fn read(path: &Path) -> Result<File, Failure> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::Start(format!("cannot read {shown}: {error}")))?;
    toml::from_str(&text).map_err(|error| {
        let before = &text[..error.span().map_or(0, |span| span.start)];
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
        let what = error.message().trim_end().replace('\n', ", ");
        Failure::Start(format!("{shown}:{line}:{column}: {what}"))
    })
}
