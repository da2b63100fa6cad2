//! The runtimes, as the benches use them.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use std::{env, process, thread};

use clap::Parser;
use slotcast::driver::{Driver, DriverError, NodeHandle, Setup};
use slotcast_smol::SmolIo;
use slotcast_tokio::TokioIo;

use crate::options::{Choice, Options};

/// What the runtimes do differently.
pub trait Runtime: Send + Sync + 'static {
    /// As it is called on the command line.
    const NAME: &str;
    /// A task of this runtime.
    type Task<T: Send + 'static>: Task<T>;
    /// The loop of a node.
    type Driver: Future<Output = Result<(), DriverError>> + Send + Unpin + 'static;

    /// For plain quinn.
    fn quinn() -> Arc<dyn quinn::Runtime>;

    /// A node, and its driver, which is to be spawned.
    fn bind_unspawned(setup: Setup, address: SocketAddr) -> (NodeHandle, Self::Driver);

    /// Starts a node, and spawns its driver.
    fn bind(setup: Setup, address: SocketAddr) -> NodeHandle {
        let (node, driver) = Self::bind_unspawned(setup, address);
        drop(Self::spawn(driver));
        node
    }

    /// Starts a task.
    fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Self::Task<T>;

    /// Returns at that time.
    fn sleep_until(deadline: Instant) -> impl Future<Output = ()> + Send;

    /// Runs a task, and with it all others, until it ends.
    fn block_on(future: impl Future<Output = ()> + Send + 'static);

    /// What `future` gives, unless it takes until `deadline`.
    fn timeout_at<T: Send>(
        deadline: Instant,
        future: impl Future<Output = T> + Send,
    ) -> impl Future<Output = Option<T>> + Send {
        let late = async move {
            Self::sleep_until(deadline).await;
            None
        };
        smol::future::or(async { Some(future.await) }, late)
    }
}

/// The handle of a task. Dropping it does not end the task.
pub trait Task<T>: Future<Output = T> + Send + Unpin {
    /// Ends the task where it waits.
    fn abort(self);
}

/// A bench, which is the same under each runtime.
pub trait Bench {
    /// Runs it, and prints its figures.
    fn run<R: Runtime>(options: Options) -> impl Future<Output = ()> + Send + 'static;
}

/// Runs a bench as the command line says.
pub fn main<B: Bench>() {
    let options = Options::parse();
    if options.runtime != Choice::Tokio {
        give_smol_threads();
    }
    if options.runtime != Choice::Smol {
        println!("under {}", Tokio::NAME);
        Tokio::block_on(B::run::<Tokio>(options.clone()));
    }
    if options.runtime != Choice::Tokio {
        println!("under {}", Smol::NAME);
        Smol::block_on(B::run::<Smol>(options));
    }
}

/// smol's executor takes the number of its threads from the environment, and has one without it: a
/// new process is started with as many as tokio has.
fn give_smol_threads() {
    const NAME: &str = "SMOL_THREADS";
    if env::var_os(NAME).is_some() {
        return;
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new(env::current_exe().expect("this bench is a file"));
    let status = command.args(env::args_os().skip(1)).env(NAME, threads.to_string()).status();
    process::exit(status.expect("it starts").code().unwrap_or(1));
}

/// tokio, with a thread per core.
#[derive(Debug)]
pub struct Tokio;

/// A task of tokio's.
#[derive(Debug)]
pub struct TokioTask<T>(tokio::task::JoinHandle<T>);

impl Runtime for Tokio {
    const NAME: &str = "tokio";
    type Task<T: Send + 'static> = TokioTask<T>;
    type Driver = Driver<TokioIo>;

    fn quinn() -> Arc<dyn quinn::Runtime> {
        Arc::new(quinn::TokioRuntime)
    }

    fn bind_unspawned(setup: Setup, address: SocketAddr) -> (NodeHandle, Self::Driver) {
        slotcast_tokio::bind_unspawned(setup, address).expect("the port is free")
    }

    fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> TokioTask<T> {
        TokioTask(tokio::spawn(future))
    }

    async fn sleep_until(deadline: Instant) {
        tokio::time::sleep_until(deadline.into()).await;
    }

    fn block_on(future: impl Future<Output = ()> + Send + 'static) {
        let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
        // In a task: the main thread's future is polled less eagerly.
        runtime.block_on(async { tokio::spawn(future).await.expect("the bench does not panic") });
    }
}

impl<T> Future for TokioTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.expect("tasks do not panic"))
    }
}

impl<T: Send + 'static> Task<T> for TokioTask<T> {
    fn abort(self) {
        self.0.abort();
    }
}

/// smol's global executor.
#[derive(Debug)]
pub struct Smol;

/// A task of smol's. `None` once it was aborted.
#[derive(Debug)]
pub struct SmolTask<T>(Option<smol::Task<T>>);

impl Runtime for Smol {
    const NAME: &str = "smol";
    type Task<T: Send + 'static> = SmolTask<T>;
    type Driver = Driver<SmolIo>;

    fn quinn() -> Arc<dyn quinn::Runtime> {
        Arc::new(quinn::SmolRuntime)
    }

    fn bind_unspawned(setup: Setup, address: SocketAddr) -> (NodeHandle, Self::Driver) {
        slotcast_smol::bind_unspawned(setup, address).expect("the port is free")
    }

    fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> SmolTask<T> {
        SmolTask(Some(smol::spawn(future)))
    }

    async fn sleep_until(deadline: Instant) {
        smol::Timer::at(deadline).await;
    }

    fn block_on(future: impl Future<Output = ()> + Send + 'static) {
        smol::block_on(smol::spawn(future));
    }
}

impl<T> Future for SmolTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(self.0.as_mut().expect("it was not aborted")).poll(cx)
    }
}

impl<T: Send + 'static> Task<T> for SmolTask<T> {
    fn abort(mut self) {
        // Dropping smol's own handle ends the task.
        self.0 = None;
    }
}

impl<T> Drop for SmolTask<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}
