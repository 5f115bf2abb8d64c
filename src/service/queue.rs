//! Who waits for the card: first come, first served.

use std::collections::VecDeque;
use std::time::Duration;

use super::job::Job;
use crate::chat::RequestId;

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

    pub fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// The next to run.
    pub fn pop(&mut self) -> Option<Job> {
        self.jobs.pop_front()
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
        self.jobs.iter().map(|job| if job.held() { job.hold.min(job.deadline) } else { job.deadline }).min()
    }
}
