//! Users as the control protocol has them.

use lodge_proto::control::{SetUserRequest, User};

use super::{Change, Person};

impl From<&Person> for User {
    fn from(person: &Person) -> Self {
        let spec = person.spec.clone();
        Self {
            name: spec.name,
            title: spec.title,
            uid: spec.uid,
            team: spec.team,
            org: spec.org,
            rpm: spec.rpm,
            tpm: spec.tpm,
            concurrency: spec.concurrency,
            configured: person.configured,
        }
    }
}

impl From<SetUserRequest> for Change {
    fn from(request: SetUserRequest) -> Self {
        Self {
            title: request.title,
            // What is too large for a uid is none that there could be.
            uid: request
                .uid
                .map(|uid| (uid >= 0).then(|| u32::try_from(uid).unwrap_or(u32::MAX))),
            team: request.team,
            org: request.org,
            rpm: request.rpm,
            tpm: request.tpm,
            concurrency: request.concurrency,
        }
    }
}
