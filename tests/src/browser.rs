//! A headless Chromium, where there is one, driven by its DevTools protocol over a pair of pipes.

use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long the browser may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the page is shown on.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Width of the window in CSS pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// The reader prefers dark colours.
    pub dark: bool,
    /// The page is laid out as for paper.
    pub print: bool,
    /// Touch and a narrow viewport, as phones have them.
    pub phone: bool,
}

impl Screen {
    /// A window on a desk.
    pub const DESK: Self = Self { width: 1280, height: 900, dark: false, print: false, phone: false };
    /// A telephone held upright.
    pub const PHONE: Self = Self { width: 390, height: 844, dark: false, print: false, phone: true };
}

/// An open page.
#[derive(Debug)]
pub struct Page {
    child: Child,
    to: File,
    from: Receiver<Value>,
    next: u64,
    session: String,
    console: Vec<String>,
    loaded: bool,
    folder: tempfile::TempDir,
}

impl Page {
    /// Opens a file; `None`, and a line that says so, where there is no Chromium. `fragment` is what stands behind the `#`.
    ///
    /// # Panics
    /// If the browser fails.
    pub fn open(file: &Path, fragment: &str, screen: Screen) -> Option<Self> {
        let Some(browser) = find() else {
            println!("skipped: no chromium in PATH");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo starts");
            assert!(made.success(), "no pipe at {}", path.display());
            path
        };
        let (commands, answers) = (pipe("commands"), pipe("answers"));
        let log = File::create(folder.path().join("log")).expect("a log");
        let child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<\"$COMMANDS\" 4>\"$ANSWERS\""])
            .arg(browser)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-extensions", "--disable-background-networking", "--hide-scrollbars"])
            .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg("about:blank")
            .env("COMMANDS", &commands)
            .env("ANSWERS", &answers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the browser starts");
        // Each end waits for the other: the same order as in the shell.
        let to = File::options().write(true).open(&commands).expect("the commands' pipe");
        let from = messages(File::open(&answers).expect("the answers' pipe"));
        let mut page = Self {
            child,
            to,
            from,
            next: 0,
            session: String::new(),
            console: Vec::new(),
            loaded: false,
            folder,
        };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }));
        let asked = json!({ "targetId": target["targetId"], "flatten": true });
        let session = page.call("Target.attachToTarget", asked);
        page.session = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.show(screen);
        page.loaded = false;
        let path = file.canonicalize().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let hash = if fragment.is_empty() { String::new() } else { format!("#{fragment}") };
        page.call("Page.navigate", json!({ "url": format!("file://{}{hash}", path.display()) }));
        while !page.loaded {
            page.receive();
        }
        Some(page)
    }

    /// Changes what the page is shown on.
    ///
    /// # Panics
    /// If the browser fails.
    pub fn show(&mut self, screen: Screen) {
        let metrics = json!({
            "width": screen.width, "height": screen.height, "deviceScaleFactor": 1, "mobile": screen.phone,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if screen.dark { "dark" } else { "light" };
        let media = json!({
            "media": if screen.print { "print" } else { "screen" },
            "features": [{ "name": "prefers-color-scheme", "value": scheme }],
        });
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// The value of an expression, awaited if it is a promise.
    ///
    /// # Panics
    /// If it throws.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}\n{:#}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// If it does not become true.
    #[track_caller]
    pub fn until(&mut self, condition: &str) {
        let wait = format!(
            "new Promise((resolve) => {{ let left = 500; const look = () => {{ const is = !!({condition}); \
             if (is || left-- < 0) resolve(is); else setTimeout(look, 20); }}; look(); }})"
        );
        assert_eq!(self.evaluate(&wait), Value::Bool(true), "never: {condition}");
    }

    /// Presses and releases a key, called as in `KeyboardEvent.key`.
    ///
    /// # Panics
    /// If the browser fails.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            "Home" => 36,
            "End" => 35,
            "Escape" => 27,
            _ => 0,
        };
        // A key that types nothing comes as the keyboard sends it.
        let kind = if code == 0 { "keyDown" } else { "rawKeyDown" };
        let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
        if code == 0 {
            event["text"] = key.into();
        }
        self.call("Input.dispatchKeyEvent", event);
        let up = json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", up);
    }

    /// Waits until a case of a report is shown.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn shows(&mut self, id: &str) {
        self.until(&format!("document.body.dataset.case === {}", json!(id)));
    }

    /// Sets a control of a report's gallery and answers the ids that are left, in their order.
    ///
    /// # Panics
    /// If there is no such control.
    #[track_caller]
    pub fn filtered(&mut self, control: &str, value: &str) -> Vec<String> {
        let set = format!(
            "(() => {{ const c = document.getElementById({control:?}); c.value = {value:?}; \
             c.dispatchEvent(new Event('input', {{ bubbles: true }})); \
             return Array.from(document.querySelectorAll('#gallery .name'), (n) => n.textContent); }})()"
        );
        let found = self.evaluate(&set);
        let ids = found.as_array().into_iter().flatten().filter_map(Value::as_str);
        ids.map(str::to_owned).collect()
    }

    /// # Panics
    /// If the console says anything.
    #[track_caller]
    pub fn silent(&self) {
        assert!(self.console().is_empty(), "the console says: {:#?}", self.console());
    }

    /// True if nothing of the page sticks out to the right.
    ///
    /// # Panics
    /// If the browser fails.
    #[track_caller]
    pub fn fits(&mut self) -> bool {
        self.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth") == true
    }

    /// What scripts, the network and the policy of the page's content wrote to the console.
    pub fn console(&self) -> &[String] {
        &self.console
    }

    /// Sends a command and waits for its answer.
    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).unwrap_or_else(|e| panic!("{method}: {e}\n{}", self.log()));
        loop {
            let answer = self.receive();
            if answer["id"] == id {
                assert!(answer.get("error").is_none(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    /// The next message; events are noted.
    fn receive(&mut self) -> Value {
        let message =
            self.from.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("the browser: {e}\n{}", self.log()));
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Page.loadEventFired") => self.loaded = true,
            Some("Runtime.exceptionThrown") => self.console.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") => self.console.push(params["args"].to_string()),
            Some("Log.entryAdded") => self.console.push(params["entry"].to_string()),
            _ => {}
        }
        message
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Messages as they come, each ended by a zero byte.
fn messages(mut from: File) -> Receiver<Value> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let (mut waiting, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            waiting.extend_from_slice(&chunk[..n]);
            while let Some(end) = waiting.iter().position(|b| *b == 0) {
                let message: Vec<u8> = waiting.drain(..=end).collect();
                let parsed = serde_json::from_slice(&message[..end]);
                if parsed.is_ok_and(|message| send.send(message).is_err()) {
                    return;
                }
            }
        }
    });
    receive
}

fn find() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).flat_map(|folder| names.map(|n| folder.join(n))).find(|p| p.is_file())
}
