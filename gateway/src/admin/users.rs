//! The administrative service for the people who use the gateway.

use std::sync::Arc;

use lodge_proto::control::gateway_users_server::{GatewayUsers, GatewayUsersServer};
use lodge_proto::control::{
    ListUsersRequest, ListUsersResponse, RemoveUserRequest, RemoveUserResponse, SetUserRequest,
    SetUserResponse, User,
};
use serde_json::{Value, json};
use tonic::{Code, Request, Response, Status};

use super::audited;
use crate::audit::Actor;
use crate::guest::Gateway;
use crate::people::{PeopleError, UserSpec};

pub(super) fn service(gateway: Arc<Gateway>) -> GatewayUsersServer<Users> {
    GatewayUsersServer::new(Users { gateway })
}

/// The service.
pub(super) struct Users {
    gateway: Arc<Gateway>,
}

pub(super) fn status(error: &PeopleError) -> Status {
    let code = match error {
        PeopleError::Spec(_) | PeopleError::Uid { .. } | PeopleError::Other { .. } => Code::InvalidArgument,
        PeopleError::Exists(_) => Code::AlreadyExists,
        PeopleError::Unknown(_) => Code::NotFound,
        PeopleError::Configured(_) => Code::FailedPrecondition,
        PeopleError::TooMany => Code::ResourceExhausted,
        PeopleError::Store(_) | PeopleError::Interrupted | PeopleError::Stored { .. } => {
            tracing::error!(error = crate::causes(error), "changing a user");
            Code::Internal
        }
    };
    Status::new(code, error.to_string())
}

/// A name as it may stand in the audit.
fn target(name: &str) -> String {
    let named = UserSpec {
        name: name.to_owned(),
        ..UserSpec::default()
    };
    match named.check() {
        Ok(()) => format!("user:{name}"),
        Err(_) => "(not a name)".to_owned(),
    }
}

/// What is asked for, without what stays as it is.
fn asked(request: &SetUserRequest) -> Value {
    let fields = [
        ("title", request.title.clone().map(Value::from)),
        ("uid", request.uid.map(Value::from)),
        ("team", request.team.clone().map(Value::from)),
        ("org", request.org.clone().map(Value::from)),
        ("rpm", request.rpm.map(Value::from)),
        ("tpm", request.tpm.map(Value::from)),
        ("concurrency", request.concurrency.map(Value::from)),
    ];
    let named = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(named.collect())
}

impl Users {
    async fn set(&self, request: SetUserRequest) -> Result<User, Status> {
        let (name, create, people) = (request.name.clone(), request.create, &self.gateway.people);
        let set = if create {
            people.create(&name, request.into()).await
        } else {
            people.change(&name, request.into()).await
        };
        let person = set.map_err(|error| status(&error))?;
        tracing::info!(user = name, "a user was set");
        Ok(User::from(&*person))
    }

    async fn remove(&self, name: &str) -> Result<(), Status> {
        let removed = self.gateway.people.remove(name).await;
        removed.map_err(|error| status(&error))?;
        tracing::info!(user = name, "a user was removed");
        Ok(())
    }
}

#[tonic::async_trait]
impl GatewayUsers for Users {
    async fn list_users(
        &self,
        _request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let users = self.gateway.people.list();
        let users = users.iter().map(|person| User::from(&**person)).collect();
        Ok(Response::new(ListUsersResponse { users }))
    }

    async fn set_user(&self, request: Request<SetUserRequest>) -> Result<Response<SetUserResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let action = if request.create { "user.add" } else { "user.set" };
        let change = audited::change(actor, action, target(&request.name), asked(&request));
        let user = audited::around(&self.gateway, change, self.set(request), |_| String::new()).await?;
        Ok(Response::new(SetUserResponse { user: Some(user) }))
    }

    async fn remove_user(
        &self,
        request: Request<RemoveUserRequest>,
    ) -> Result<Response<RemoveUserResponse>, Status> {
        let actor = Actor::of(&request);
        let name = request.into_inner().name;
        let change = audited::change(actor, "user.remove", target(&name), json!({}));
        audited::around(&self.gateway, change, self.remove(&name), |()| String::new()).await?;
        Ok(Response::new(RemoveUserResponse {}))
    }
}
