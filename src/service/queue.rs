//! Who waits for the card: first come, first served, with a head start for the important.

use std::collections::VecDeque;
use std::time::Duration;

use super::job::Job;
use crate::chat::{Priority, RequestId};

/// A request counts as if it had come so much later: it waits for others at most that long.
const fn handicap(priority: Priority) -> Duration {
    Duration::from_secs(match priority {
        Priority::High => 0,
        Priority::Normal => 30,
        Priority::Low => 120,
    })
}

/// So does one whose model must be loaded first.
const EXCHANGE: Duration = Duration::from_secs(10);

/// Jobs that are not running.
#[derive(Default)]
pub(super) struct Queue {
    jobs: VecDeque<Job>,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// About how much memory the requests take, in bytes.
    pub fn size(&self) -> usize {
        self.jobs.iter().map(Job::size).sum()
    }

    pub fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// Whether someone waits for this model.
    pub fn wants(&self, model: Option<&str>) -> bool {
        self.jobs.iter().any(|job| job.model() == model)
    }

    /// The next to run. Those whose model `is_there` go before others for a while, so that
    /// models are not exchanged with every request.
    pub fn pop(&mut self, is_there: impl Fn(&Job) -> bool) -> Option<Job> {
        let exchange = |job: &Job| if is_there(job) { Duration::ZERO } else { EXCHANGE };
        let turn = |job: &Job| job.arrived + handicap(job.priority()) + exchange(job);
        // Of equals the first.
        let (at, _) = self.jobs.iter().enumerate().min_by_key(|(_, job)| turn(job))?;
        self.jobs.remove(at)
    }

    /// Makes every place certain: a worker is ready.
    pub fn admit(&mut self) {
        self.jobs.iter_mut().for_each(Job::admit);
    }

    /// Takes out a job whose client left.
    pub fn remove(&mut self, id: RequestId) -> Option<Job> {
        let at = self.jobs.iter().position(|job| job.id == id)?;
        self.jobs.remove(at)
    }

    /// Takes out every job for which `chosen` holds.
    pub fn take(&mut self, chosen: impl Fn(&Job) -> bool) -> Vec<Job> {
        let (out, kept) = std::mem::take(&mut self.jobs).into_iter().partition(|job| chosen(job));
        self.jobs = kept;
        Vec::from(out)
    }

    /// When the next job's patience ends.
    pub fn deadline(&self) -> Option<Duration> {
        self.jobs.iter().map(|job| if job.held() { job.hold.min(job.due) } else { job.due }).min()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::chat::{Input, Request};
    use crate::service::job::Times;

    fn job(id: u64, arrived: u64, priority: Priority) -> Job {
        let arrived = Duration::from_secs(arrived);
        let far = arrived + Duration::from_secs(300);
        let request = Request { priority, ..Request::new(Input::Raw(String::new())) };
        let times = Times { arrived, deadline: far, hold: far };
        Job::new(RequestId(id), request, mpsc::channel(1).0, oneshot::channel().0, times)
    }

    #[test]
    fn the_important_overtake_and_none_waits_for_ever() {
        let mut queue = Queue::default();
        queue.push(job(1, 0, Priority::Low));
        queue.push(job(2, 10, Priority::Normal));
        queue.push(job(3, 11, Priority::Normal));
        queue.push(job(4, 20, Priority::High));
        // More than its handicap later than the first.
        queue.push(job(5, 121, Priority::High));
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop(|_| true)).map(|job| job.id.0).collect();
        assert_eq!(order, [4, 2, 3, 1, 5]);
    }

    #[test]
    fn whose_model_is_there_goes_first_for_ten_seconds() {
        for (later, first) in [(9, 2), (11, 1)] {
            let mut queue = Queue::default();
            queue.push(job(1, 0, Priority::Normal));
            queue.push(job(2, later, Priority::Normal));
            assert_eq!(queue.pop(|job| job.id.0 == 2).unwrap().id.0, first, "{later} s later");
        }
    }
}
