use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use super::*;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).to_owned())))
        .collect();
    Config::parse(&Options::embedded(Path::new("/data")), text, &environment)
}

fn error(text: &str) -> String {
    parse(text, &[]).unwrap_err().to_string()
}

#[test]
fn nothing_configured_means_the_demo_model_in_embedded_mode_only() {
    assert_eq!(parse("", &[]).unwrap().demo, DemoWhen::WithoutProvider);
    assert_eq!(
        parse("[gateway]\ndemo = false", &[]).unwrap().demo,
        DemoWhen::Never
    );
    assert_eq!(
        parse("[[provider]]\nname = 'demo'\nkind = 'demo'", &[])
            .unwrap()
            .demo,
        DemoWhen::Always
    );
    let hosted = Options {
        embedded: false,
        ..Options::embedded(Path::new("/data"))
    };
    assert_eq!(
        Config::parse(&hosted, "", &BTreeMap::new()).unwrap().demo,
        DemoWhen::Never
    );
    assert_eq!(
        Config::parse(&hosted, "gateway.demo = true", &BTreeMap::new())
            .unwrap()
            .demo,
        DemoWhen::Always
    );
}

#[test]
fn keys_come_from_the_environment_or_a_private_file() {
    let text = "[[provider]]\nname = 'a'\nkind = 'anthropic'\nkey_env = 'A_KEY'";
    let config = parse(text, &[("A_KEY", "sk-1")]).unwrap();
    assert_eq!(config.providers[0].key.as_ref().unwrap().expose(), "sk-1");
    assert!(!format!("{config:?}").contains("sk-1"));
    assert!(error(text).contains("provider[0] `a`: key_env: the environment variable A_KEY is not set"));

    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, mode| {
        let path = directory.path().join(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .unwrap();
        file.write_all(b"sk-2\n").unwrap();
        format!(
            "[[provider]]\nname = 'o'\nkind = 'openai'\nkey_file = '{}'",
            path.display()
        )
    };
    let config = parse(&write("private", 0o600), &[]).unwrap();
    assert_eq!(config.providers[0].key.as_ref().unwrap().expose(), "sk-2");
    assert!(error(&write("open", 0o644)).contains("can be read by others; run: chmod 600"));
}

#[test]
fn errors_name_file_and_key() {
    let unknown = error("[[provider]]\nname = 'a'\nkind = 'openai'\nkye_env = 'X'");
    assert!(
        unknown.contains("config/lodge.toml, line 4: unknown field `kye_env`"),
        "{unknown}"
    );
    assert!(error("[gateway]\ndemos = true").contains("unknown field `demos`"));
    assert!(error("[[provider]]\nname = 'a'\nkind = 'bard'").contains("unknown variant `bard`"));
    assert!(error("[gateway]\nmax_body_mib = 0").contains("gateway.max_body_mib: must be between"));
    assert!(
        error("[gateway]\nmax_connections = 0")
            .contains("gateway.max_connections: must be between 1 and 30000")
    );
    for (settings, key) in [
        ("kind = 'openai_compatible'", "base_url: is needed"),
        ("kind = 'openai'\nbase_url = 'http://example.com/v1'", "base_url"),
        (
            "kind = 'openai'\nbase_url = 'https://user:pw@example.com'",
            "base_url",
        ),
        ("kind = 'openai'\nresponses = true", "responses"),
        (
            "kind = 'openai'\nkey_env = 'A'\nkey_file = '/b'",
            "key_file: only one of",
        ),
        (
            "kind = 'openai'\nkey_file = 'relative'",
            "key_file: relative is not an absolute path",
        ),
        ("kind = 'demo'", "name: a provider of kind `demo`"),
        ("kind = 'openai'\nmodels = [{ id = '' }]", "models.id"),
    ] {
        let message = error(&format!("[[provider]]\nname = 'x'\n{settings}"));
        assert!(
            message.contains("lodge.toml: provider[0] `x`: ") && message.contains(key),
            "{message}"
        );
    }
    for name in ["", "Upper", "-x", "a/b", "demo", "x y"] {
        let message = error(&format!("[[provider]]\nname = '{name}'\nkind = 'openai'"));
        assert!(message.contains("name: "), "{name}: {message}");
    }
    let twice = "[[provider]]\nname = 'x'\nkind = 'openai'\n".repeat(2);
    assert!(error(&twice).contains("provider[1] `x`: name: another provider"));
}

#[test]
fn a_key_written_into_the_file_is_not_repeated_in_the_error() {
    for line in [
        "key = 'sk-secret'",
        "models = 'sk-secret'",
        "insecure_http = 'sk-secret'",
        "kind = sk-secret",
    ] {
        let message = error(&format!("[[provider]]\nname = 'a'\nkind = 'openai'\n{line}"));
        assert!(!message.contains("sk-secret"), "{message}");
    }
}

#[test]
fn the_example_is_a_configuration_with_and_without_its_comments() {
    let text = include_str!("../../../examples/config/lodge.toml");
    assert!(parse(text, &[]).unwrap().providers.is_empty());
    // A setting is commented out by `#` without a space after it.
    let active: Vec<_> = text
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        .collect();
    let config = parse(
        &active.join("\n"),
        &[("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_API_KEY_2", "l")],
    )
    .unwrap();
    let kinds: Vec<_> = config.providers.iter().map(|provider| provider.kind).collect();
    assert_eq!(kinds, [Kind::Anthropic, Kind::OpenaiCompatible]);
    assert_eq!(config.limits.max_body, Limits::default().max_body);
    let (egress, default) = (config.egress, crate::egress::Settings::default());
    assert_eq!(egress.allow_private.len(), 1);
    assert_eq!(
        (egress.connections, egress.rate, egress.bytes, egress.idle),
        (default.connections, default.rate, default.bytes, default.idle)
    );
}

#[test]
fn keys_of_people_are_accepted_on_this_machine_only() {
    let listen = |setting: &str| parse(&format!("[gateway]\n{setting}"), &[]).map(|config| config.listen);
    assert_eq!(listen("listen = 'off'").unwrap(), None);
    assert_eq!(
        listen("listen = '[::1]:8790'").unwrap(),
        Some("[::1]:8790".parse().unwrap())
    );
    assert!(listen("").unwrap().unwrap().ip().is_loopback());
    for setting in ["0.0.0.0:8790", "localhost:8790", "8790", "192.0.2.1:1"] {
        let message = error(&format!("[gateway]\nlisten = '{setting}'"));
        assert!(message.contains("gateway.listen: must be"), "{message}");
    }
    let negative = "models = [{ id = 'm', price = { input = -1, output = 1 } }]";
    let message = error(&format!("[[provider]]\nname = 'a'\nkind = 'openai'\n{negative}"));
    assert!(
        message.contains("a price is dollars per million tokens"),
        "{message}"
    );
}

#[test]
fn egress_settings_are_meant_or_refused() {
    let config = parse(
        "[egress]\nallow_private = ['127.0.0.1:4873', 'Lab.example:80']\nmax_gib = 1",
        &[],
    )
    .unwrap();
    let places: Vec<_> = config
        .egress
        .allow_private
        .iter()
        .map(|(host, port)| format!("{host}:{port}"))
        .collect();
    assert_eq!(places, ["127.0.0.1:4873", "lab.example:80"]);
    assert_eq!(config.egress.bytes, 1 << 30);
    for (setting, message) in [
        (
            "allow_private = ['lab.example']",
            "egress.allow_private: `lab.example`: the port is missing",
        ),
        (
            "allow_private = ['0x7f.1:80']",
            "egress.allow_private: `0x7f.1:80`",
        ),
        ("allow_private = ['*.lab.example:80']", "egress.allow_private"),
        (
            "max_connections = 0",
            "egress.max_connections: must be between 1 and 112",
        ),
        ("max_gib = 0", "egress.max_gib: must be between"),
        ("max_mib_per_second = 0", "egress.max_mib_per_second"),
        ("idle_timeout_seconds = 0", "egress.idle_timeout_seconds"),
        ("allow = ['a.example']", "unknown field `allow`"),
    ] {
        let found = error(&format!("[egress]\n{setting}"));
        assert!(found.contains(message), "{found}");
    }
}
