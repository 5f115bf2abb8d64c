//! The tokens that may come next, narrowed step by step.
//!
//! Tokens with the same logit are one entry with a count: every filter treats them alike,
//! and where only some of them stay, those with the lowest ids do.

/// Tokens that share a logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub logit: f32,
    pub count: u32,
}

impl Bucket {
    fn tokens(self) -> f64 {
        f64::from(self.count)
    }
}

/// Candidates, likeliest first.
#[derive(Clone, Debug)]
pub struct Candidates {
    buckets: Vec<Bucket>,
}

impl Candidates {
    /// From any number of buckets in any order; equal logits are joined, −∞ is left out.
    pub fn new(mut buckets: Vec<Bucket>) -> Self {
        buckets.retain(|bucket| bucket.count > 0 && bucket.logit > f32::NEG_INFINITY);
        buckets.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        buckets.dedup_by(|next, kept| {
            let same = next.logit == kept.logit;
            if same {
                kept.count += next.count;
            }
            same
        });
        Self { buckets }
    }

    /// The highest logit.
    pub fn best(&self) -> Option<f32> {
        self.buckets.first().map(|bucket| bucket.logit)
    }

    /// Probabilities relative to the likeliest, and their sum, at a temperature.
    fn weights(&self, temperature: f64) -> (Vec<f64>, f64) {
        let max = f64::from(self.best().unwrap_or(0.0));
        let weights: Vec<f64> =
            self.buckets.iter().map(|b| ((f64::from(b.logit) - max) / temperature).exp()).collect();
        let sum = self.buckets.iter().zip(&weights).map(|(b, w)| b.tokens() * w).sum();
        (weights, sum)
    }

    /// Keeps the `k` likeliest; 0 keeps all.
    pub fn top_k(&mut self, k: u32) {
        if k > 0 {
            self.keep_first(k);
        }
    }

    fn keep_first(&mut self, mut n: u32) {
        self.buckets.retain_mut(|bucket| {
            bucket.count = bucket.count.min(n);
            n -= bucket.count;
            bucket.count > 0
        });
    }

    /// Keeps the tokens whose information is nearest to the entropy, until more than `p`.
    pub fn typical_p(&mut self, p: f64) {
        if p >= 1.0 {
            return;
        }
        let (weights, sum) = self.weights(1.0);
        let probabilities: Vec<f64> = weights.iter().map(|w| w / sum).collect();
        let information = |p: f64| if p > 0.0 { -p.ln() } else { f64::INFINITY };
        let entropy: f64 = self
            .buckets
            .iter()
            .zip(&probabilities)
            .filter(|&(_, &p)| p > 0.0)
            .map(|(b, &p)| b.tokens() * p * information(p))
            .sum();
        let mut order: Vec<(f64, f64, Bucket)> = self
            .buckets
            .iter()
            .zip(&probabilities)
            .map(|(&bucket, &p)| ((information(p) - entropy).abs(), p, bucket))
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut before = 0.0;
        let mut kept = Vec::new();
        for (_, probability, mut bucket) in order {
            let all = probability * bucket.tokens();
            let reached = before + all > p;
            if reached {
                bucket.count = bucket.count.min(whole((p - before) / probability).saturating_add(1));
            }
            before += all;
            kept.push(bucket);
            if reached {
                break;
            }
        }
        *self = Self::new(kept);
    }

    /// Keeps the likeliest until they sum to at least `p`.
    pub fn top_p(&mut self, p: f64) {
        if p >= 1.0 {
            return;
        }
        let (weights, sum) = self.weights(1.0);
        let mut before = 0.0;
        let mut keep: u32 = 0;
        for (bucket, weight) in self.buckets.iter().zip(weights) {
            let probability = weight / sum;
            let all = probability * bucket.tokens();
            if before + all >= p {
                let needed = whole(((p - before) / probability).ceil()).clamp(1, bucket.count);
                keep = keep.saturating_add(needed);
                break;
            }
            before += all;
            keep = keep.saturating_add(bucket.count);
        }
        self.keep_first(keep.max(1));
    }

    /// Keeps what is at least `p` times as likely as the likeliest.
    pub fn min_p(&mut self, p: f64) {
        if p <= 0.0 {
            return;
        }
        let cut = f64::from(self.best().unwrap_or(0.0)) + p.ln();
        let mut first = true;
        self.buckets.retain_mut(|bucket| {
            if first && f64::from(bucket.logit) < cut {
                bucket.count = 1;
            }
            std::mem::take(&mut first) || f64::from(bucket.logit) >= cut
        });
    }

    /// Draws at a temperature with `u` of [0, 1): the logit, and which of its tokens.
    pub fn draw(&self, temperature: f64, u: f64) -> Option<(f32, u32)> {
        let (weights, sum) = self.weights(temperature);
        let target = u * sum;
        let mut before = 0.0;
        let mut last = None;
        for (bucket, weight) in self.buckets.iter().zip(weights) {
            let all = weight * bucket.tokens();
            if before + all > target {
                let index = whole((target - before) / weight).min(bucket.count - 1);
                return Some((bucket.logit, index));
            }
            if weight > 0.0 {
                last = Some((bucket.logit, bucket.count - 1));
            }
            before += all;
        }
        // Rounding left the target behind the last.
        last
    }
}

/// The whole part of a non-negative number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(x: f64) -> u32 {
    // Saturates; a NaN is 0.
    x as u32
}
