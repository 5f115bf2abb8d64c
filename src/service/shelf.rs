//! Which models are on the card, which is on its way there, which may leave. Pure: the time
//! is passed in, commands come out.

use std::time::Duration;

use crate::chat::KeepAlive;
use crate::config::Installed;
use crate::fault::{Failure, Fault};
use crate::link::frame::{Command, ModelInfo};

/// Loads in a row that ended with the worker, until the model is left alone.
const STRIKES: u32 = 3;
/// For so long; its loads would use up the ladder.
const BAN: Duration = Duration::from_secs(600);
/// A damaged model is not tried again before: finding out takes a while.
const PAUSE: Duration = Duration::from_secs(5);

/// An installed model.
struct Place {
    /// Its name in the configuration, and then at the worker's.
    name: String,
    /// As it was when it was last loaded.
    info: Option<ModelInfo>,
    loaded: bool,
    used: Duration,
    keep: KeepAlive,
    strikes: u32,
    /// Why it is not tried before then.
    banned: Option<(Duration, Failure)>,
}

impl Place {
    fn new(name: String) -> Self {
        let (info, banned) = (None, None);
        Self {
            name,
            info,
            loaded: false,
            used: Duration::ZERO,
            keep: KeepAlive::FOR_EVER,
            strikes: 0,
            banned,
        }
    }

    /// When it may leave; `None`: never, or it is not there.
    fn until(&self) -> Option<Duration> {
        self.keep.time().filter(|_| self.loaded).map(|time| self.used.saturating_add(time))
    }
}

/// What is changing on the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Loading {
        at: usize,
        since: Duration,
    },
    /// Loaded, its test prompt not yet answered.
    Testing {
        at: usize,
    },
    Leaving {
        at: usize,
    },
}

/// The installed models; the first is loaded by each worker from its start.
pub(super) struct Shelf {
    places: Vec<Place>,
    change: Option<Change>,
}

/// How a model is, for who asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen<'a> {
    pub name: &'a str,
    pub info: Option<&'a ModelInfo>,
    pub loaded: bool,
    /// When it is unloaded if nobody uses it.
    pub until: Option<Duration>,
}

impl Shelf {
    /// Nothing is loaded yet.
    pub fn new(installed: &[Installed]) -> Self {
        let names = installed.iter().map(|model| model.name.clone());
        let mut places: Vec<Place> = names.map(Place::new).collect();
        if places.is_empty() {
            places.push(Place::new(String::new()));
        }
        Self { places, change: None }
    }

    fn place(&self, model: Option<&str>) -> Option<usize> {
        match model {
            None => Some(0),
            Some(name) => self.places.iter().position(|place| place.name == name),
        }
    }

    /// A worker came up with the first model.
    pub fn opened(&mut self, info: ModelInfo, now: Duration) {
        self.change = None;
        if let Some(first) = self.places.first_mut() {
            first.name.clone_from(&info.name);
            (first.info, first.loaded, first.used) = (Some(info), true, now);
        }
    }

    /// The worker is gone, for this reason, and all that was loaded.
    pub fn cleared(&mut self, cause: Option<&Failure>, now: Duration) {
        self.places.iter_mut().for_each(|place| place.loaded = false);
        if let Some(Change::Loading { at, .. } | Change::Testing { at }) = self.change.take()
            && let (Some(place), Some(cause)) = (self.places.get_mut(at), cause)
        {
            place.strikes += 1;
            if place.strikes >= STRIKES {
                place.strikes = 0;
                let detail = format!(
                    "loading {} ended the card's worker {STRIKES} times in a row; it is tried again in {} min: {}",
                    place.name,
                    BAN.as_secs() / 60,
                    cause.detail
                );
                place.banned = Some((now + BAN, Failure::new(cause.fault, detail)));
            }
        }
    }

    /// Whether `model` is there to answer.
    pub fn holds(&self, model: Option<&str>) -> bool {
        let place = self.place(model).and_then(|at| self.places.get(at));
        place.is_some_and(|place| place.loaded)
    }

    /// Whether a request for `model` means the one of this name.
    pub fn is(&self, model: Option<&str>, name: &str) -> bool {
        let at = self.place(model);
        at.is_some() && at == self.place(Some(name))
    }

    /// Whether something is being loaded or unloaded: nothing else is begun meanwhile.
    pub fn is_changing(&self) -> bool {
        self.change.is_some()
    }

    /// Whether a load is under way.
    pub fn is_loading(&self) -> bool {
        matches!(self.change, Some(Change::Loading { .. }))
    }

    /// Since when a load is under way.
    pub fn loading_since(&self) -> Option<Duration> {
        match self.change {
            Some(Change::Loading { since, .. }) => Some(since),
            _ => None,
        }
    }

    /// The command that brings `model`; what is used less and not kept for ever may make room.
    ///
    /// # Errors
    /// [`Fault::ModelMissing`] for one that was not there when the service started, or why the
    /// last try failed, if that was a moment ago.
    pub fn fetch(&mut self, model: Option<&str>, now: Duration) -> Result<Command, Failure> {
        let place = self.place(model).and_then(|at| Some((at, self.places.get_mut(at)?)));
        let Some((at, place)) = place else {
            let detail = format!("{} was configured after the start", model.unwrap_or_default());
            return Err(Failure::new(Fault::ModelMissing, detail));
        };
        place.banned.take_if(|(until, _)| now >= *until);
        if let Some((_, failure)) = &place.banned {
            return Err(failure.clone());
        }
        let model = place.name.clone();
        let mut evict: Vec<&Place> = self.places.iter().filter(|place| place.until().is_some()).collect();
        evict.sort_by_key(|place| place.used);
        let evict = evict.into_iter().map(|place| place.name.clone()).collect();
        self.change = Some(Change::Loading { at, since: now });
        Ok(Command::Load { model, evict })
    }

    /// A load came to its end: the command that has the model prove itself. `None` where no such
    /// load was under way.
    pub fn added(&mut self, info: ModelInfo) -> Option<Command> {
        let Some(Change::Loading { at, .. }) = self.change else { return None };
        let place = self.places.get_mut(at).filter(|place| place.name == info.name)?;
        place.info = Some(info);
        self.change = Some(Change::Testing { at });
        Some(Command::Test { model: Some(place.name.clone()) })
    }

    /// A model cannot be loaded: why, as requests for it are told. `None` where no such load was
    /// under way.
    pub fn not_added(&mut self, model: &str, failure: Failure, now: Duration) -> Option<Failure> {
        let Some(Change::Loading { at, .. }) = self.change else { return None };
        let kept = self.kept();
        let place = self.places.get_mut(at).filter(|place| place.name == model)?;
        let failure = match failure.fault {
            Fault::CardMemory if !kept.is_empty() => {
                let detail = format!("{}; always loaded: {kept}", failure.detail);
                Failure::new(Fault::CardMemory, detail)
            }
            _ => failure,
        };
        place.strikes = 0;
        // Whether it fits is known at once.
        place.banned = (failure.fault != Fault::CardMemory).then(|| (now + PAUSE, failure.clone()));
        self.change = None;
        Some(failure)
    }

    /// Names of the models that do not make room.
    fn kept(&self) -> String {
        let kept = self.places.iter().filter(|place| place.loaded && place.until().is_none());
        kept.map(|place| place.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// A model was unloaded. False where it was not there.
    pub fn left(&mut self, model: &str) -> bool {
        self.change.take_if(|change| matches!(change, Change::Leaving { .. }));
        let place = self.place(Some(model)).and_then(|at| self.places.get_mut(at));
        place.is_some_and(|place| std::mem::replace(&mut place.loaded, false))
    }

    /// Whether the test prompt was answered by a model that was just loaded.
    pub fn tests(&self, model: &str) -> bool {
        matches!(self.change, Some(Change::Testing { at }) if self.place(Some(model)) == Some(at))
    }

    /// The model that was just loaded answered its test prompt rightly.
    pub fn proved(&mut self, now: Duration) {
        if let Some(Change::Testing { at }) = self.change.take()
            && let Some(place) = self.places.get_mut(at)
        {
            (place.loaded, place.used, place.strikes) = (true, now, 0);
        }
    }

    /// What answers of `model` depend on.
    pub fn fingerprint(&self, model: &str) -> String {
        let place = self.place(Some(model)).and_then(|at| self.places.get(at));
        place.and_then(|place| place.info.as_ref()).map(|info| info.fingerprint.clone()).unwrap_or_default()
    }

    /// `model` is used, and to be kept as the request or else the configuration says. What the
    /// configuration keeps for ever no request can send away.
    pub fn used(
        &mut self,
        model: Option<&str>,
        asked: Option<KeepAlive>,
        installed: &[Installed],
        now: Duration,
    ) {
        let Some(at) = self.place(model) else { return };
        let configured = installed.get(at).map(|model| model.keep_alive).unwrap_or_default();
        if let Some(place) = self.places.get_mut(at) {
            let asked = asked.filter(|_| configured.time().is_some());
            (place.used, place.keep) = (now, asked.unwrap_or(configured));
        }
    }

    /// The command that unloads a model whose time is over and which nobody waits for.
    pub fn tidy(&mut self, now: Duration, wanted: impl Fn(Option<&str>) -> bool) -> Option<Command> {
        let over = |(at, place): &(usize, &Place)| {
            let name = (*at > 0).then_some(place.name.as_str());
            place.until().is_some_and(|until| now >= until) && !wanted(name)
        };
        let (at, place) = self.places.iter().enumerate().find(over)?;
        self.change = Some(Change::Leaving { at });
        Some(Command::Unload { model: place.name.clone() })
    }

    /// Whether nothing is loaded, so that the first model may come back.
    pub fn is_empty(&self) -> bool {
        self.places.iter().all(|place| !place.loaded)
    }

    /// Every installed model.
    pub fn seen(&self) -> impl Iterator<Item = Seen<'_>> {
        self.places.iter().map(|place| Seen {
            name: &place.name,
            info: place.info.as_ref(),
            loaded: place.loaded,
            until: place.until(),
        })
    }
}

#[cfg(test)]
mod tests;
