//! Connections that wait for the user's word.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::decisions::{Answer, Decisions, Question};
use super::name::Host;

/// How long a connection waits.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// How long a denial stands before the same place is asked for again.
const DENIAL: Duration = Duration::from_mins(1);
/// Questions of one session at a time.
const MAX_OPEN: usize = 16;
/// Connections that wait on one question.
const MAX_WAITING: usize = 32;
/// Answers of one session that are remembered.
const MAX_REMEMBERED: usize = 1024;

/// Where somebody wants to go.
type Place = (Host, u16);

/// Why nobody could be asked, or what they said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("the user denied it")]
    Denied,
    #[error("nobody is there to be asked")]
    Nobody,
    #[error("nobody answered within {} s", PATIENCE.as_secs())]
    Unanswered,
    #[error("the question was withdrawn")]
    Withdrawn,
    #[error("too many questions are open")]
    TooMany,
}

/// The questions of one session.
#[derive(Debug)]
pub struct Questions {
    inner: Mutex<Inner>,
    decisions: Arc<dyn Decisions>,
}

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<Place, Open>,
    remembered: HashMap<Place, Remembered>,
}

#[derive(Debug)]
struct Open {
    id: String,
    answer: watch::Sender<Option<Answer>>,
    waiting: usize,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Remembered {
    Allowed,
    DeniedUntil(Instant),
}

/// What is known when somebody wants to ask.
enum Joined {
    Allowed,
    Denied,
    Waiting {
        answer: watch::Receiver<Option<Answer>>,
        deadline: Instant,
        /// To be put to the user; the question is there already otherwise.
        fresh: Option<Question>,
    },
}

impl Questions {
    /// No questions; they will go to `decisions`.
    pub fn new(decisions: Arc<dyn Decisions>) -> Self {
        Self {
            inner: Mutex::default(),
            decisions,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the user. `asking` is called when there is a question to wait for.
    pub async fn ask(&self, host: &Host, port: u16, asking: impl FnOnce()) -> Result<(), AskError> {
        let place = (host.clone(), port);
        let (mut answer, deadline, fresh) = match self.join(&place)? {
            Joined::Allowed => return Ok(()),
            Joined::Denied => return Err(AskError::Denied),
            Joined::Waiting {
                answer,
                deadline,
                fresh,
            } => (answer, deadline, fresh),
        };
        // Leaves the question when this future is dropped: the guest may have hung up.
        let _waiting = Waiting {
            questions: self,
            place,
        };
        if let Some(question) = fresh
            && !self.decisions.ask(&question)
        {
            return Err(AskError::Nobody);
        }
        asking();
        let answered = answer.wait_for(Option::is_some);
        match tokio::time::timeout_at(deadline, answered).await {
            Err(_) => Err(AskError::Unanswered),
            Ok(Err(_)) => Err(AskError::Nobody),
            Ok(Ok(answer)) => match *answer {
                Some(Answer::Once | Answer::Session) => Ok(()),
                Some(Answer::Deny) => Err(AskError::Denied),
                Some(Answer::Cancel) | None => Err(AskError::Withdrawn),
            },
        }
    }

    fn join(&self, place: &Place) -> Result<Joined, AskError> {
        let mut inner = self.inner();
        match inner.remembered.get(place) {
            Some(Remembered::Allowed) => return Ok(Joined::Allowed),
            Some(Remembered::DeniedUntil(until)) if *until > Instant::now() => return Ok(Joined::Denied),
            _ => {}
        }
        if let Some(open) = inner.open.get_mut(place) {
            if open.waiting >= MAX_WAITING {
                return Err(AskError::TooMany);
            }
            open.waiting += 1;
            return Ok(Joined::Waiting {
                answer: open.answer.subscribe(),
                deadline: open.deadline,
                fresh: None,
            });
        }
        if inner.open.len() >= MAX_OPEN {
            return Err(AskError::TooMany);
        }
        let id = new_id().ok_or(AskError::Nobody)?;
        let (sender, answer) = watch::channel(None);
        let deadline = Instant::now() + PATIENCE;
        let fresh = Question {
            id: id.clone(),
            host: place.0.to_string(),
            port: place.1,
            patience: PATIENCE,
        };
        inner.open.insert(
            place.clone(),
            Open {
                id,
                answer: sender,
                waiting: 1,
                deadline,
            },
        );
        Ok(Joined::Waiting {
            answer,
            deadline,
            fresh: Some(fresh),
        })
    }

    /// The user's answer; `false` where the question is closed.
    pub fn answer(&self, id: &str, answer: Answer) -> bool {
        let mut inner = self.inner();
        let place = inner
            .open
            .iter()
            .find(|(_, open)| open.id == id)
            .map(|(place, _)| place.clone());
        let Some(open) = place.as_ref().and_then(|place| inner.open.remove(place)) else {
            return false;
        };
        let remembered = match answer {
            Answer::Session => Some(Remembered::Allowed),
            Answer::Deny => Some(Remembered::DeniedUntil(Instant::now() + DENIAL)),
            Answer::Once | Answer::Cancel => None,
        };
        if inner.remembered.len() >= MAX_REMEMBERED {
            let now = Instant::now();
            inner
                .remembered
                .retain(|_, known| !matches!(known, Remembered::DeniedUntil(until) if *until <= now));
        }
        if let (Some(place), Some(remembered)) = (place, remembered)
            && inner.remembered.len() < MAX_REMEMBERED
        {
            inner.remembered.insert(place, remembered);
        }
        drop(inner);
        open.answer.send_replace(Some(answer));
        self.decisions.closed(&open.id);
        true
    }

    /// Whoever could have answered is gone.
    pub fn withdraw_all(&self) {
        let open = std::mem::take(&mut self.inner().open);
        for question in open.into_values() {
            question.answer.send_replace(Some(Answer::Cancel));
        }
    }

    fn leave(&self, place: &Place) {
        let mut inner = self.inner();
        let Some(open) = inner.open.get_mut(place) else {
            return;
        };
        open.waiting = open.waiting.saturating_sub(1);
        if open.waiting == 0
            && let Some(open) = inner.open.remove(place)
        {
            drop(inner);
            self.decisions.closed(&open.id);
        }
    }
}

/// One connection that waits.
struct Waiting<'a> {
    questions: &'a Questions,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.questions.leave(&self.place);
    }
}

fn new_id() -> Option<String> {
    let mut id = "ask-".to_owned();
    for byte in crate::seal::random::<8>().ok()? {
        let _infallible = write!(id, "{byte:02x}");
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::decisions::Access;

    #[derive(Debug, Default)]
    struct User {
        asked: Mutex<Vec<String>>,
        closed: Mutex<Vec<String>>,
        is_away: bool,
    }

    impl Decisions for User {
        fn access(&self, _: Access) {}

        fn ask(&self, question: &Question) -> bool {
            self.asked.lock().unwrap().push(question.id.clone());
            !self.is_away
        }

        fn closed(&self, question: &str) {
            self.closed.lock().unwrap().push(question.to_owned());
        }
    }

    fn host(name: &str) -> Host {
        Host::parse(name.as_bytes()).unwrap()
    }

    /// Asks for a place, answers, and returns what came of it.
    async fn answered(questions: &Questions, user: &User, with: Answer) -> Result<(), AskError> {
        let host = host("a.example");
        let answering = async {
            let id = loop {
                if let Some(id) = user.asked.lock().unwrap().last().cloned() {
                    break id;
                }
                tokio::task::yield_now().await;
            };
            questions.answer(&id, with);
        };
        tokio::join!(questions.ask(&host, 443, || ()), answering).0
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_as_long_as_they_say() {
        let host = host("a.example");
        for (answer, first, second) in [
            (Answer::Session, Ok(()), Ok(())),
            (Answer::Deny, Err(AskError::Denied), Err(AskError::Denied)),
        ] {
            let user = Arc::new(User::default());
            let questions = Questions::new(Arc::clone(&user) as Arc<dyn Decisions>);
            assert_eq!(answered(&questions, &user, answer).await, first);
            assert_eq!(questions.ask(&host, 443, || ()).await, second);
            assert_eq!(user.asked.lock().unwrap().len(), 1);
            // Another port is another place.
            assert_eq!(questions.ask(&host, 80, || ()).await, Err(AskError::Unanswered));
            assert_eq!(user.closed.lock().unwrap().len(), 2);
        }
        for (answer, first) in [(Answer::Once, Ok(())), (Answer::Cancel, Err(AskError::Withdrawn))] {
            let user = Arc::new(User::default());
            let questions = Questions::new(Arc::clone(&user) as Arc<dyn Decisions>);
            assert_eq!(answered(&questions, &user, answer).await, first);
            // Asked again, and nobody answers.
            assert_eq!(questions.ask(&host, 443, || ()).await, Err(AskError::Unanswered));
            assert_eq!(user.asked.lock().unwrap().len(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_for_many_connections_and_not_too_many_questions() {
        let user = Arc::new(User::default());
        let questions = Arc::new(Questions::new(Arc::clone(&user) as Arc<dyn Decisions>));
        let place = host("a.example");
        let mut waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| {
                let (questions, place) = (Arc::clone(&questions), place.clone());
                tokio::spawn(async move { questions.ask(&place, 443, || ()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(questions.ask(&place, 443, || ()).await, Err(AskError::TooMany));
        let id = user.asked.lock().unwrap()[0].clone();
        assert_eq!(user.asked.lock().unwrap().len(), 1);
        // One that hangs up takes nothing from the others.
        waiting.pop().unwrap().abort();
        assert!(questions.answer(&id, Answer::Once) && !questions.answer(&id, Answer::Once));
        for task in waiting {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        for number in 0..MAX_OPEN {
            let (questions, place) = (Arc::clone(&questions), host(&format!("h{number}.example")));
            tokio::spawn(async move { questions.ask(&place, 443, || ()).await });
        }
        tokio::task::yield_now().await;
        assert_eq!(questions.ask(&place, 443, || ()).await, Err(AskError::TooMany));
        questions.withdraw_all();
        assert_eq!(questions.ask(&place, 443, || ()).await, Err(AskError::Unanswered));
    }

    #[tokio::test]
    async fn without_anybody_it_is_a_denial() {
        let user = Arc::new(User {
            is_away: true,
            ..User::default()
        });
        let questions = Questions::new(Arc::clone(&user) as Arc<dyn Decisions>);
        let mut told = false;
        let result = questions.ask(&host("a.example"), 443, || told = true).await;
        assert_eq!((result, told), (Err(AskError::Nobody), false));
    }
}
