//! Whose keys, budgets and usage an account may see. It follows from who is logged in, never from what a request says.

use crate::LOCAL_ACCOUNT;
use crate::auth::extract::User;
use crate::rest::gateway::error_of;
use crate::server::App;
use lodge_proto::control::{Budget, ListUsersRequest, User as Known, VirtualKey};
use lodge_proto::relay::Rights;
use lodge_proto::{ErrorBody, ErrorCode};
use std::collections::BTreeSet;
use tonic::Code;

/// Whether an account administers this machine: who owns the runner of a machine owns the machine.
pub(crate) fn administers(rights: Rights) -> bool {
    rights == Rights::Own
}

/// An account as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The gateway's users that are this account: the account's keys are made for its id, its sessions run as its
    /// runner's uid. May be empty.
    pub(crate) users: Vec<String>,
    administrator: bool,
}

impl Reach {
    pub(crate) fn of(app: &App, user: &User) -> Self {
        Self::new(&user.actor.account, user.actor.rights, app.config.peers.runner)
    }

    fn new(account: &str, rights: Rights, runner: u32) -> Self {
        let mut users = Vec::new();
        // Digits alone are a uid to the gateway: an account of that name is not the user of that uid.
        if !account.bytes().all(|byte| byte.is_ascii_digit()) {
            users.push(account.to_owned());
        }
        if account == LOCAL_ACCOUNT {
            users.push(runner.to_string());
        }
        Self {
            users,
            administrator: administers(rights),
        }
    }

    /// With the names under which the gateway knows the account: what its sessions spend is counted under these.
    pub(crate) async fn known(mut self, app: &App) -> Result<Self, ErrorBody> {
        if self.users.is_empty() {
            return Ok(self);
        }
        match app.gateway.users().list_users(ListUsersRequest {}).await {
            Ok(listed) => self.learn(&listed.into_inner().users),
            // A gateway that knows nobody by name.
            Err(status) if status.code() == Code::Unimplemented => {}
            Err(status) => return Err(error_of(&status)),
        }
        Ok(self)
    }

    fn learn(&mut self, known: &[Known]) {
        for user in known {
            let uid = user.uid.map(|uid| uid.to_string());
            let names = [Some(&user.name), uid.as_ref()];
            let names = names.into_iter().flatten();
            if !names.clone().any(|name| self.users.contains(name)) {
                continue;
            }
            for name in names {
                if !self.users.contains(name) {
                    self.users.push(name.clone());
                }
            }
        }
    }

    pub(crate) fn is_administrator(&self) -> bool {
        self.administrator
    }

    /// Refuses whoever does not administer this machine.
    pub(crate) fn must_administer(&self) -> Result<(), ErrorBody> {
        if self.administrator {
            return Ok(());
        }
        Err(ErrorBody::new(
            ErrorCode::Forbidden,
            "only an administrator may do this",
        ))
    }

    pub(crate) fn owns(&self, key: &VirtualKey) -> bool {
        self.users.contains(&key.user)
    }

    /// The account's own budgets: its users', its sessions' and those of its keys.
    pub(crate) fn owns_budget(&self, budget: &Budget, own_keys: &BTreeSet<String>) -> bool {
        match budget.scope.split_once(':') {
            Some(("user", name)) => self.is_user(name),
            Some(("key", id)) => own_keys.contains(id),
            Some(("session", name)) => name.split_once('/').is_some_and(|(owner, _)| self.is_user(owner)),
            _ => false,
        }
    }

    fn is_user(&self, name: &str) -> bool {
        self.users.iter().any(|user| user == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owns(reach: &Reach, scope: &str) -> bool {
        let budget = Budget {
            scope: scope.into(),
            ..Budget::default()
        };
        reach.owns_budget(&budget, &BTreeSet::from(["k1".to_owned()]))
    }

    #[test]
    fn an_account_is_its_name_and_the_local_one_is_its_runner_too() {
        assert_eq!(Reach::new("ann", Rights::View, 7).users, ["ann"]);
        assert_eq!(Reach::new(LOCAL_ACCOUNT, Rights::Own, 7).users, ["local", "7"]);
        assert_eq!(Reach::new("7", Rights::Own, 7).users, [""; 0]);
        Reach::new("ann", Rights::View, 7).must_administer().unwrap_err();
        Reach::new("ann", Rights::Own, 7).must_administer().unwrap();
    }

    #[test]
    fn an_account_is_whom_the_gateway_knows_by_its_uid_or_its_name() {
        let known = |name: &str, uid: Option<u32>| Known {
            name: name.into(),
            uid,
            ..Known::default()
        };
        let all = [known("mia", Some(7)), known("ann", Some(8)), known("bob", None)];
        let users = |account: &str, rights: Rights| {
            let mut reach = Reach::new(account, rights, 7);
            reach.learn(&all);
            reach.users
        };
        assert_eq!(users(LOCAL_ACCOUNT, Rights::Own), ["local", "7", "mia"]);
        assert_eq!(users("ann", Rights::View), ["ann", "8"]);
        assert_eq!(users("bob", Rights::View), ["bob"]);
        assert_eq!(users("zoe", Rights::View), ["zoe"]);
    }

    #[test]
    fn budgets_of_others_are_not_ones_own() {
        let reach = Reach::new(LOCAL_ACCOUNT, Rights::Own, 7);
        for (scope, own) in [
            ("user:local", true),
            ("user:7", true),
            ("session:7/s", true),
            ("key:k1", true),
            ("user:70", false),
            ("session:70/s", false),
            ("session:7", false),
            ("key:k2", false),
            ("team:local", false),
            ("org:local", false),
            ("account:local", false),
            ("local", false),
        ] {
            assert_eq!(owns(&reach, scope), own, "{scope}");
        }
    }
}
