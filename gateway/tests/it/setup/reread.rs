//! The file read again, by itself and among other changes, and checked without being taken over.

use lodge_proto::control::{CheckConfigRequest, HealthRequest, ListProvidersRequest, ReloadRequest};

use super::{FILE, Scene, alias, shown};
use crate::admin::admin;
use crate::common::{PROVIDER_KEY, SECOND_KEY, soon};
use crate::ops::entries;

#[tokio::test]
async fn many_administrators_at_once_and_a_reload_among_them_lose_nothing() {
    let scene = Scene::new(FILE).await;
    let mut changes = tokio::task::JoinSet::new();
    for at in 0..20 {
        let mut client = scene.client.clone();
        changes.spawn(async move {
            let target = format!("filed/m{at}");
            client
                .put_alias(alias(&format!("a{at}"), &[&target]))
                .await
                .unwrap();
            // All of them about one.
            client.put_alias(alias("one", &[&target])).await.unwrap();
        });
        if at % 5 == 0 {
            let mut accounts = crate::translate::accounts(scene.data.path()).await;
            changes.spawn(async move {
                let reload = ReloadRequest {};
                accounts.reload(reload).await.unwrap();
            });
        }
    }
    soon("all changes are made", changes.join_all()).await;
    let mut client = scene.client.clone();
    let listed = shown(&mut client).await.aliases;
    assert_eq!(listed.len(), 22);
    let one = listed.iter().find(|alias| alias.name == "one").unwrap();
    assert!(
        one.targets.len() == 1 && one.targets[0].starts_with("filed/m"),
        "{one:?}"
    );
}

#[tokio::test]
async fn the_file_is_read_again_by_itself_and_what_is_not_valid_changes_nothing() {
    let mut scene = Scene::new(FILE).await;
    scene.client.put_alias(alias("mine", &["filed/m"])).await.unwrap();
    let mut admin = admin(scene.data.path()).await;
    let mut problem = async || {
        let health = admin.health(HealthRequest {}).await.unwrap();
        health.into_inner().config_error
    };
    assert_eq!(problem().await, "");
    scene.write(&format!("{FILE}[[alias]]\nprovider = 'filed'\n"));
    let told = async {
        loop {
            let problem = problem().await;
            if !problem.is_empty() {
                return problem;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let told = soon("the error is told", told).await;
    assert!(
        told.contains("lodge.toml, line ") && told.contains("name"),
        "{told}"
    );
    assert_eq!(shown(&mut scene.client).await.aliases.len(), 2);
    // The file comes to say something of a name that was entered: it holds, and what was entered waits.
    scene.write(&format!(
        "{FILE}[[alias]]\nprovider = 'filed'\nname = 'mine'\ntargets = ['filed/other']\n"
    ));
    let mut client = scene.client.clone();
    let read = async {
        while shown(&mut client).await.aliases.len() != 3 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon("the file is read again", read).await;
    assert_eq!(problem().await, "");
    let listed = shown(&mut scene.client).await.aliases;
    let states: Vec<_> = listed
        .iter()
        .map(|alias| (alias.name.as_str(), alias.origin.as_str(), alias.shadowed))
        .collect();
    assert_eq!(
        states,
        [
            ("best", "file", false),
            ("mine", "file", false),
            ("mine", "api", true)
        ]
    );
    let (key, body) = scene.arrives("/filed/v1/messages", r#"{"model":"mine"}"#).await;
    assert!(key == PROVIDER_KEY || key == SECOND_KEY);
    assert_eq!(body, r#"{"model":"other"}"#);
    let actions = entries(scene.data.path()).await;
    let actions: Vec<_> = actions
        .iter()
        .map(|entry| (entry.action.as_str(), entry.outcome.as_str()))
        .collect();
    assert_eq!(
        actions,
        [
            ("gateway.reload", "ok"),
            ("gateway.reload", "InvalidArgument"),
            ("alias.set", "ok")
        ]
    );
}

#[tokio::test]
async fn a_configuration_is_checked_without_being_taken_over() {
    let mut scene = Scene::new(FILE).await;
    let mut check = async |text: Option<&str>| {
        let request = CheckConfigRequest {
            text: text.map(str::to_owned),
        };
        scene.client.check_config(request).await.unwrap().into_inner()
    };
    assert_eq!(check(None).await.error, "");
    let answer = check(Some("[[provider]]\nname = 'x'\nkind = 'openai'\nkye = 1")).await;
    assert!(
        answer.error.contains("lodge.toml, line 4") && answer.error.contains("kye"),
        "{answer:?}"
    );
    let answer = check(Some("[egress]\nmax_gib = 7")).await;
    assert_eq!(
        (answer.error.as_str(), answer.needs_restart),
        ("", vec!["egress".to_owned()])
    );
    let listed = admin(scene.data.path())
        .await
        .list_providers(ListProvidersRequest {})
        .await;
    assert_eq!(listed.unwrap().into_inner().providers[0].name, "filed");
}
