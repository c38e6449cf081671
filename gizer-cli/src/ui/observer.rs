//! What the engine says, as people at the terminal and monitors are shown it.

use gizer_engine::{Activity, ActivityKind, Event, Observer};

use super::progress::Progress;
use super::{Format, report};
use crate::commands::schema::{evolve, infer};
use crate::metrics::Metrics;

/// Shows events to people, and passes them on to metrics.
#[derive(Debug)]
pub(crate) struct Screen {
    pub(crate) metrics: Metrics,
    pub(crate) format: Format,
}

impl Observer for Screen {
    fn observe(&self, event: Event<'_>) {
        match event {
            Event::Notice(notice) if notice.is_warning() => report::warning(notice),
            Event::Notice(notice) => report::note(notice),
            Event::Collection(event) => report::note(event),
            Event::Evolved(evolved) if self.format == Format::Text => evolve::print(evolved),
            Event::Inferred(written) if self.format == Format::Text => infer::print(written),
            _ => {}
        }
        self.metrics.observe(event);
    }

    fn wants_verified_up_to(&self) -> bool {
        self.metrics.are_read()
    }

    fn begin(&self, activity: Activity) -> Box<dyn Send> {
        let Activity { collection, kind } = activity;
        Box::new(match kind {
            ActivityKind::Counted { counters, expected } => Progress::start(&collection, counters, expected),
            ActivityKind::Step(step) => Progress::of_step(&collection, step),
        })
    }
}
