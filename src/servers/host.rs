//! A place for one private server: a temporary directory, an account that may run it, and a guard that ends it.

use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reads lines from us: a number is the server to guard from now on, an empty line ends it. The end of input means that
/// this process is gone, in whatever way (drop, panic, Ctrl-C, `kill -9`): then the server goes, and its directory.
const GUARD: &str = r#"
trap '' HUP INT QUIT TERM
end() { [ -z "$pid" ] || kill -s "$1" "$pid" 2>/dev/null; }
stop=$1 abandon=$2 dir=$3 pid=
while read -r line; do [ -n "$line" ] || end "$stop"; pid=$line; done
end "$abandon"
tries=0
while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
rm -rf "$dir"
"#;

/// How long a server may take to end before it is killed, which loses what it has not written yet.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Host {
    dir: TempDir,
    /// Uid and gid to run as when this process is root: PostgreSQL refuses root, and nothing here needs it.
    account: Option<(u32, u32)>,
    guard: Child,
    server: Option<Child>,
}

impl Host {
    /// Signals, as `kill -s` names them: `stop` ends this kind of server with its data kept, `abandon` at once.
    pub(crate) fn new(stop: &str, abandon: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("llm-relay-demo-").tempdir()?;
        // The owner of what we have just made tells who we are.
        let account = (fs::metadata(dir.path())?.uid() == 0).then(nobody);
        if let Some((uid, gid)) = account {
            chown(dir.path(), Some(uid), Some(gid))?;
        }
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD, "guard", stop, abandon]).arg(dir.path());
        // Not our working directory and not our process group: Ctrl-C in a terminal is for us, we end the server.
        guard.current_dir("/").process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        run_as(&mut guard, account);
        let guard = guard.spawn()?;
        Ok(Self { dir, account, guard, server: None })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A command in the directory, as the account, without our environment.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).process_group(0).stdin(Stdio::null()).env_clear();
        command.env("PATH", env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
        // The account may not write anywhere else.
        command.env("TMPDIR", self.path());
        run_as(&mut command, self.account);
        command
    }

    /// A file that only the account (and root) can read.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path().join(name);
        fs::write(&path, text)?;
        self.give(&path)?;
        Ok(path)
    }

    /// The same in a directory below, which is made.
    pub(crate) fn write_below(&self, path: &str, text: &str) -> io::Result<()> {
        let mut below = self.path().to_owned();
        for part in Path::new(path).parent().into_iter().flat_map(Path::iter) {
            below.push(part);
            self.make_directory(&below)?;
        }
        self.write(path, text).map(drop)
    }

    /// A directory that the account can write to, unless it is there.
    fn make_directory(&self, directory: &Path) -> io::Result<()> {
        if directory.exists() {
            return Ok(());
        }
        fs::create_dir(directory)?;
        match self.account {
            Some((uid, gid)) => chown(directory, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Makes a file the account's own.
    pub(crate) fn give(&self, path: &Path) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        if let Some((uid, gid)) = self.account {
            chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// Copies what is in a directory and not in the other yet, for the account to read and write.
    pub(super) fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.make_directory(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let to = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.copy(&entry.path(), &to)?;
            } else if !to.exists() {
                fs::copy(entry.path(), &to)?;
                self.give(&to)?;
            }
        }
        Ok(())
    }

    /// Starts the server; it is guarded from here on.
    pub(crate) fn spawn(&mut self, mut command: Command) -> io::Result<()> {
        self.stop();
        let log = fs::File::create(self.log())?;
        let server = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let line = format!("{}\n", server.id());
        self.server = Some(server);
        self.tell(&line)
    }

    /// Runs a program to its end, guarded like a server; the inner error is its last words.
    pub(crate) async fn run(&mut self, command: Command) -> io::Result<Result<(), String>> {
        self.spawn(command)?;
        loop {
            match self.server.as_mut().map(Child::try_wait).transpose()?.flatten() {
                Some(status) if status.success() => return Ok(Ok(())),
                Some(_) => return Ok(Err(self.last_words())),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Whether the server has ended, or never ran.
    pub(crate) fn ended(&mut self) -> bool {
        self.server.as_mut().is_none_or(|server| !matches!(server.try_wait(), Ok(None)))
    }

    /// Ends the server and waits for it; the directory stays.
    pub(crate) fn stop(&mut self) {
        if self.server.is_some() {
            // A guard that cannot be told is gone; `reap` then kills the server itself.
            let _ = self.tell("\n");
            self.reap();
        }
    }

    /// The server's last words, on one line: as many as PostgreSQL says of a port that is taken.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(6)..].join("; ")
    }

    fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    fn tell(&mut self, line: &str) -> io::Result<()> {
        match &mut self.guard.stdin {
            Some(pipe) => pipe.write_all(line.as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn reap(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let deadline = Instant::now() + PATIENCE;
        while let Ok(None) = server.try_wait() {
            if Instant::now() > deadline {
                let _ = server.kill();
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        self.reap();
        let _ = self.guard.wait();
    }
}

fn run_as(command: &mut Command, account: Option<(u32, u32)>) {
    if let Some((uid, gid)) = account {
        command.uid(uid).gid(gid);
    }
}

/// Uid and gid of the account `nobody`.
fn nobody() -> (u32, u32) {
    const USUAL: (u32, u32) = (65534, 65534);
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == "nobody").then_some(())?;
            Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .unwrap_or(USUAL)
}

/// The first directory of `PATH`, then of `usual`, that holds all of `programs`; the resolved one, because programs look
/// for their siblings there.
pub(crate) fn find(programs: &[&str], usual: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(usual.iter().cloned())
        .find(|dir| programs.iter().all(|program| dir.join(program).is_file()))
        .and_then(|dir| fs::canonicalize(dir.join(programs[0])).ok())
        .and_then(|program| program.parent().map(Path::to_path_buf))
}

pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Whether a server has a page, and the server is ready to give it.
pub(super) async fn has_page(port: u16, path: &str) -> Result<(), String> {
    let answer = exchange(port, &format!("GET {path} HTTP/1.0\r\n\r\n")).await.map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    if answer.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(format!("not ready: {answer}")) }
}

/// Sends a request of HTTP/1.0, and gives the whole answer.
pub(super) async fn exchange(port: u16, request: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
