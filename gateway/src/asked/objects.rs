//! Ids and URLs in a body, at the places where a provider would follow them.
//!
//! Every field is looked at, those that come twice included: nothing hides behind the one a parser drops. What a tool
//! was called with, its schema and its text are data, whatever their keys are called.

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Of a container, GiB: what one counts as whose size cannot be read.
const MOST_MEMORY: u64 = 1024;

/// What an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Response,
    Conversation,
    Container,
    File,
    Cache,
    /// An item of a stored response.
    Item,
    VectorStore,
    Skill,
    /// Of a file, under way in pieces.
    Upload,
}

impl Kind {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Conversation => "conversation",
            Self::Container => "container",
            Self::File => "file",
            Self::Cache => "cached content",
            Self::Item => "item",
            Self::VectorStore => "vector store",
            Self::Skill => "skill",
            Self::Upload => "upload",
        }
    }
}

/// A stored object that a request refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub kind: Kind,
    pub id: String,
}

/// Everything found in one body.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) objects: Vec<Object>,
    pub(super) fetches: bool,
    /// GiB of memory of the largest container, which is what its price goes by; 0 where none is asked for.
    pub(super) memory: u64,
}

/// Of a whole body.
pub(super) fn find(body: &[u8]) -> Result<Found, serde_json::Error> {
    let mut found = Found::default();
    let walk = Walk {
        place: Place::Body,
        found: &mut found,
    };
    walk.deserialize(&mut serde_json::Deserializer::from_slice(body))?;
    Ok(found)
}

/// Where in a body a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Body,
    /// Messages, items, contents and their parts, at any level.
    Parts,
    /// Where an image or a file comes from.
    Source,
    /// An image of `OpenAI`'s, as text or as an object.
    Image,
    /// A file of Gemini's.
    FileData,
    /// The result of a function of Gemini's.
    FunctionResponse,
    Tools,
    /// An id, or an object that has one.
    Reference(Kind),
    /// What a container is to know.
    Skills,
    /// An address the provider would open.
    Url,
    /// What a container may reach.
    Network,
    NetworkType,
    /// How much of it a container has, as `4g`.
    Memory,
    /// What kind of item it is.
    Type,
    /// The item's own id, which matters where the item is nothing else.
    OwnId,
    Skipped,
}

impl Place {
    fn child(self, key: &str) -> Self {
        match (self, key) {
            (
                Self::Body,
                "messages" | "input" | "contents" | "system" | "systemInstruction" | "system_instruction"
                | "content" | "requests" | "items",
            )
            | (Self::Parts, "content" | "output" | "parts" | "result")
            | (Self::Source, "content")
            | (Self::FunctionResponse, "parts") => Self::Parts,
            (Self::Body, "previous_response_id") => Self::Reference(Kind::Response),
            (Self::Body, "conversation") | (Self::Reference(Kind::Conversation), "id") => {
                Self::Reference(Kind::Conversation)
            }
            (Self::Body | Self::Tools, "container") | (Self::Reference(Kind::Container), "id") => {
                Self::Reference(Kind::Container)
            }
            (Self::Body, "cachedContent" | "cached_content") => Self::Reference(Kind::Cache),
            // The environment is that of a shell in a container.
            (Self::Body, "tools") | (Self::Tools, "environment") => Self::Tools,
            (Self::Body, "generateContentRequest" | "generate_content_request") => Self::Body,
            (Self::Body | Self::Tools | Self::Reference(Kind::Container), "file_ids")
            | (Self::Body | Self::Parts | Self::Source, "file_id") => Self::Reference(Kind::File),
            (Self::Parts | Self::Tools, "container_id") => Self::Reference(Kind::Container),
            (Self::Body | Self::Tools | Self::Reference(Kind::Container), "skills") => Self::Skills,
            (Self::Skills, "skill_id") => Self::Reference(Kind::Skill),
            (Self::Tools, "vector_store_ids") => Self::Reference(Kind::VectorStore),
            (Self::Parts, "source" | "file") => Self::Source,
            (Self::Parts, "image_url" | "video_url" | "audio_url") => Self::Image,
            (Self::Parts, "fileData" | "file_data") => Self::FileData,
            (Self::Parts, "functionResponse" | "function_response") => Self::FunctionResponse,
            (Self::Parts, "file_url")
            | (Self::Source | Self::Image, "url")
            | (Self::FileData, "fileUri" | "file_uri") => Self::Url,
            (Self::Body | Self::Tools | Self::Reference(Kind::Container), "network_policy") => Self::Network,
            (Self::Network, "type") => Self::NetworkType,
            (Self::Body | Self::Tools | Self::Reference(Kind::Container), "memory_limit") => Self::Memory,
            (Self::Parts, "type") => Self::Type,
            (Self::Parts, "id") => Self::OwnId,
            _ => Self::Skipped,
        }
    }
}

/// The id of a file stored at Gemini, whose address is no other server's.
fn gemini_file(url: &str) -> Option<String> {
    let id = url.strip_prefix("https://generativelanguage.googleapis.com/v1beta/")?;
    let name = id.strip_prefix("files/")?;
    let is_plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_plain.then(|| id.to_owned())
}

struct Walk<'a> {
    place: Place,
    found: &'a mut Found,
}

/// What the walk over a value tells the one above it.
#[derive(Default)]
struct Told {
    text: Option<String>,
}

impl Walk<'_> {
    fn at(&mut self, place: Place) -> Walk<'_> {
        Walk {
            place,
            found: self.found,
        }
    }

    fn text(&mut self, text: &str) -> Told {
        match self.place {
            // The provider's own skills have names of another form.
            Place::Reference(Kind::Skill) if !text.starts_with("skill_") => {}
            Place::Reference(kind) => self.found.objects.push(Object {
                kind,
                id: text.to_owned(),
            }),
            // `data:` holds the bytes themselves.
            Place::Url if gemini_file(text).is_some() => {
                self.found
                    .objects
                    .extend(gemini_file(text).map(|id| Object { kind: Kind::File, id }));
            }
            Place::Url | Place::Image => {
                let is_data = text
                    .get(..5)
                    .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
                self.found.fetches |= !is_data;
            }
            Place::Network | Place::NetworkType => self.found.fetches |= text != "disabled",
            Place::Memory => {
                let size = text.strip_suffix('g').and_then(|size| size.parse().ok());
                self.found.memory = self.found.memory.max(size.unwrap_or(MOST_MEMORY));
            }
            Place::Type | Place::OwnId => {
                return Told {
                    text: Some(text.to_owned()),
                };
            }
            _ => {}
        }
        Told::default()
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Told;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Told, D::Error> {
        if self.place == Place::Skipped {
            return deserializer
                .deserialize_ignored_any(IgnoredAny)
                .map(|_| Told::default());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Told;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<Told, E> {
        Ok(self.text(text))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Told, E> {
        Ok(Told::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Told, E> {
        Ok(Told::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Told, E> {
        Ok(Told::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Told, E> {
        Ok(Told::default())
    }

    fn visit_unit<E>(self) -> Result<Told, E> {
        Ok(Told::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Told, A::Error> {
        let place = self.place;
        while items.next_element_seed(self.at(place))?.is_some() {}
        Ok(Told::default())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Told, A::Error> {
        let (mut is_reference, mut own_ids) = (false, Vec::new());
        while let Some(key) = fields.next_key::<String>()? {
            let place = self.place.child(&key);
            let told = fields.next_value_seed(self.at(place))?;
            match (place, told.text) {
                (Place::Type, Some(kind)) => is_reference |= kind == "item_reference",
                (Place::OwnId, Some(id)) => own_ids.push(id),
                _ => {}
            }
        }
        if is_reference {
            let item = |id| Object { kind: Kind::Item, id };
            self.found.objects.extend(own_ids.into_iter().map(item));
        }
        Ok(Told::default())
    }
}
