//! What a person is told of a policy before anything starts.

use lodge_sandbox::explain::Explanation;
use lodge_sandbox::limits::Means;
use lodge_sandbox::plan::{SessionSpec, plan};
use lodge_sandbox::policy::{Layer, Policy};
use lodge_sandbox::view::{HostView, Kind};

const TEXT: &str = "version = 1
[fs]
read = ['/opt/tools']
deny = ['/opt/tools/secret', '/elsewhere']
[net]
mode = 'broker'
allow = ['pypi.org', '*.example.org']
deny = ['bad.example.org']
ports = [443]
unlisted = 'ask'
[env]
pass = ['LC_ALL']
set = { CI = '1' }
[limits]
require = 'hard'
";

fn policy() -> Policy {
    Policy::base(&Layer::parse("system.toml".as_ref(), TEXT).expect("layer")).expect("policy")
}

fn explained(check: impl FnOnce(&Explanation<'_>)) {
    let spec = SessionSpec {
        workspace: "/srv/project".into(),
        private_home: "/var/lodge/s/home".into(),
        gateway_socket: "/var/lodge/s/gateway.sock".into(),
        harness_roots: vec!["/var/lodge/harness/pi/1".into()],
        init_binary: "/var/lodge/bin/lodge-init".into(),
        uid: 1001,
        gid: 1001,
        session_id: "s".into(),
    };
    let control = [(".git", Kind::Directory), (".git/config", Kind::File)];
    let view = HostView {
        system: vec![
            ("/usr".into(), Kind::Directory),
            ("/etc/localtime".into(), Kind::File),
        ],
        control: control.map(|(name, kind)| (name.to_owned(), kind)).into(),
        denied: [
            ("/opt/tools/secret".into(), Kind::File),
            ("/elsewhere".into(), Kind::Directory),
        ]
        .into(),
        ..HostView::default()
    };
    let policy = policy();
    let plan = plan(&policy, &spec, &view).expect("plan");
    check(&Explanation::with(&policy, &plan, &Means::default()));
}

#[test]
fn the_lines_for_a_person() {
    explained(|explanation| insta::assert_snapshot!(explanation.lines().join("\n")));
}

#[test]
fn the_same_as_data() {
    explained(|explanation| {
        let data = serde_json::to_value(explanation).expect("json");
        assert_eq!(data["tier"], "process");
        assert_eq!(data["hidden"], serde_json::json!(["/opt/tools/secret"]));
        assert_eq!(data["writable"], serde_json::json!(["/srv/project"]));
        assert_eq!(data["unprotected"], serde_json::json!([".husky"]));
        assert_eq!(data["network"]["unlisted"], "ask");
        assert_eq!(data["plan"]["hostname"], "lodge");
        let memory = &data["limits"][1];
        assert_eq!(
            (&memory["key"], &memory["how"]),
            (&"limits.memory".into(), &"sampled".into())
        );
        let refused = data["refused"].as_str().expect("memory is only sampled");
        assert!(
            refused.starts_with("limits.require: limits.memory is only sampled"),
            "{refused}"
        );
    });
}
