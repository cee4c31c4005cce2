//! Whose keys, budgets and usage an account may see. It follows from who is logged in, never from what a request says.

use crate::LOCAL_ACCOUNT;
use crate::auth::extract::User;
use crate::server::App;
use lodge_proto::control::{Budget, VirtualKey};
use lodge_proto::relay::Rights;
use lodge_proto::{ErrorBody, ErrorCode};
use std::collections::BTreeSet;

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
