//! What an `[[agent]]` may say.

use super::*;
use std::os::unix::fs::symlink;

/// An agent of these lines, of good form or with the error's text.
fn read(text: &str) -> Result<Agents, String> {
    #[derive(Deserialize)]
    struct File {
        agent: Vec<Agent>,
    }
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    Agents::new(file.agent).map_err(|error| error.to_string())
}

#[test]
fn what_is_wrong_is_named_by_its_key() {
    let good = "[[agent]]\nname = \"mine\"\ncommand = [\"/usr/bin/env\"]\n";
    assert!(read(good).is_ok());
    for (more, key) in [
        ("colour = 1", "colour"),
        ("roots = [\"here\"]", "roots"),
        ("dialects = []", "dialects"),
        ("dialects = [\"latin\"]", "latin"),
        ("env = { LODGE_API_KEY = \"x\" }", "LODGE_API_KEY"),
        ("env = { HOME = \"/\" }", "HOME"),
        ("env = { \"A B\" = \"x\" }", "A B"),
        ("env = { A = \"x\\u0000\" }", "env"),
        ("args = [\"\\u001b\"]", "args"),
        ("title = \"\\n\"", "title"),
    ] {
        let error = read(&format!("{good}{more}\n")).unwrap_err();
        assert!(error.contains(key), "{more}: {error}");
    }
    for name in [
        "",
        "Mine",
        "1st",
        "a b",
        "../pi",
        "pi",
        "codex",
        "gemini",
        "acp",
        &"a".repeat(33),
    ] {
        let error = read(&good.replace("mine", name)).unwrap_err();
        assert!(error.contains("agent[0]: name"), "{name}: {error}");
    }
    for command in ["[]", "[\"env\"]", "[\"\"]"] {
        let error = read(&good.replace("[\"/usr/bin/env\"]", command)).unwrap_err();
        assert!(error.contains("agent[0]: command"), "{command}: {error}");
    }
    let error = read(&good.repeat(2)).unwrap_err();
    assert!(error.contains("agent[1]: name"), "{error}");
    // An agent that Lodge has settings for, and cannot install.
    assert!(read(&good.replace("mine", "goose")).is_ok());
}

/// A machine with an agent's directory, Lodge's data and a workspace.
struct Machine {
    _root: tempfile::TempDir,
    root: PathBuf,
    places: Places,
}

impl Machine {
    fn new() -> Self {
        let temporary = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/../target").unwrap();
        let root = temporary.path().canonicalize().unwrap();
        for folder in ["agent/bin", "data/gateway", "src/project", "home"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let places = Places {
            data: root.join("data"),
            workspaces: vec![root.join("src")],
        };
        let machine = Self {
            _root: temporary,
            root,
            places,
        };
        machine.program("agent/bin/run", 0o755);
        machine
    }

    fn program(&self, path: &str, mode: u32) {
        let path = self.root.join(path);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn agent(&self, program: &str, roots: &[&str]) -> Agent {
        Agent {
            name: "mine".to_owned(),
            title: None,
            description: None,
            command: vec![self.root.join(program).to_string_lossy().into_owned()],
            args: None,
            roots: roots.iter().map(|root| self.root.join(root)).collect(),
            env: BTreeMap::new(),
            dialects: None,
            hide: None,
        }
    }

    fn refused(&self, program: &str, roots: &[&str]) -> String {
        let error = self.agent(program, roots).resolve(&self.places).unwrap_err();
        error.to_string()
    }
}

#[test]
fn a_program_is_there_executable_and_seen_by_its_guests() {
    let machine = Machine::new();
    let agent = machine.agent("agent/bin/run", &["agent"]);
    let found = agent.resolve(&machine.places).unwrap();
    assert_eq!(found.argv0, [machine.root.join("agent/bin/run")]);
    assert_eq!(found.roots, [machine.root.join("agent")]);
    // The system's need no root.
    assert!(machine.agent("/bin/sh", &[]).resolve(&machine.places).is_ok());

    machine.program("agent/bin/plain", 0o644);
    machine.program("agent/bin/anyones", 0o777);
    symlink(
        machine.root.join("home/away"),
        machine.root.join("agent/bin/link"),
    )
    .unwrap();
    machine.program("home/away", 0o755);
    for (program, said) in [
        ("agent/bin/none", "No such file"),
        ("agent/bin", "is no file"),
        ("agent/bin/plain", "is not executable"),
        ("agent/bin/anyones", "changed by every user"),
        ("home/away", "not seen in the sandbox"),
        // It is what the link leads to that has to be seen.
        ("agent/bin/link", "not seen in the sandbox"),
    ] {
        let error = machine.refused(program, &["agent"]);
        assert!(
            error.contains("agent `mine`: command") && error.contains(said),
            "{program}: {error}"
        );
    }
}

#[test]
fn a_root_shows_nothing_but_the_agent() {
    let machine = Machine::new();
    symlink(machine.root.join("agent"), machine.root.join("alias")).unwrap();
    for (root, said) in [
        ("none", "No such file"),
        ("agent/bin/run", "is no directory"),
        ("alias", "symbolic link"),
        ("data", "Lodge's own data"),
        ("data/gateway", "Lodge's own data"),
        (".", "Lodge's own data"),
        ("src", "in which sessions work"),
        ("src/project", "in which sessions work"),
        ("/", "is the system's"),
        ("/etc", "is the system's"),
        ("/usr/lib", "is the system's"),
        ("/home", "is a home directory"),
    ] {
        if !machine.root.join(root).exists() && root.starts_with('/') {
            continue;
        }
        let error = machine.refused("agent/bin/run", &["agent", root]);
        assert!(
            error.contains("agent `mine`: roots") && error.contains(said),
            "{root}: {error}"
        );
    }
    let home = std::env::home_dir().unwrap().canonicalize().unwrap();
    let error = machine.refused("agent/bin/run", &["agent", home.to_str().unwrap()]);
    assert!(error.contains("agent `mine`: roots"), "{error}");
}

#[test]
fn the_list_says_what_is_wrong_with_one_and_shows_the_others() {
    let machine = Machine::new();
    let (good, mut bad) = (
        machine.agent("agent/bin/run", &["agent"]),
        machine.agent("gone", &[]),
    );
    bad.name = "gone".to_owned();
    let agents = Agents::new(vec![bad, good]).unwrap();
    let listed = agents.list(&machine.places);
    assert!(!listed[0].installed && listed[1].installed);
    let problem = listed[0].problem.as_ref().unwrap();
    assert_eq!(problem.code, ErrorCode::HarnessNotInstalled);
    for part in ["gone", "command", "[[agent]]"] {
        assert!(problem.message.contains(part), "{}", problem.message);
    }
    let error = agents.check(&machine.places).unwrap_err().to_string();
    assert!(error.contains("agent `gone`: command"), "{error}");
}

#[test]
fn what_agents_run_of_a_workspace_is_hidden_unless_the_file_says_otherwise() {
    let parse = |more: &str| {
        read(&format!(
            "[[agent]]\nname = \"mine\"\ncommand = [\"/opt/agent\"]\n{more}"
        ))
    };
    let hidden = |more| parse(more).unwrap().get("mine").unwrap().hidden();
    for name in [".claude", ".codex", ".mcp.json", ".gemini"] {
        assert!(hidden("").iter().any(|hidden| hidden == name), "{name}");
    }
    assert!(!hidden("").iter().any(|hidden| hidden == "AGENTS.md"));
    assert_eq!(hidden("hide = [\".mine\"]"), [".mine"]);
    assert!(hidden("hide = []").is_empty());
    for wrong in ["", ".", "..", "a/b", "/etc", "a\\n"] {
        let error = parse(&format!("hide = [\"{wrong}\"]")).unwrap_err();
        assert!(error.contains("hide"), "{wrong}: {error}");
    }
}
