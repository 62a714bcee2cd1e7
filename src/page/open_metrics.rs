//! OpenMetrics 1.0, written by prometheus-client: one collector for a family, because one that two collectors share
//! would have its header twice.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType as Encoded;
use prometheus_client::registry::Registry;

use super::samples::{Family, Labels, Value, whole};
use crate::metrics::MetricType;

/// Appends a family.
pub(super) fn write(out: &mut impl fmt::Write, family: &Arc<Family>) {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collected(Arc::clone(family))));
    encode_registry(out, &registry).expect("memory takes every write");
}

/// Appends the end mark.
pub(super) fn end(out: &mut impl fmt::Write) {
    encode_eof(out).expect("memory takes every write");
}

#[derive(Debug)]
struct Collected(Arc<Family>);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        encode_family(&self.0, &mut encoder)
    }
}

fn encode_family(family: &Family, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let metric = family.metric;
    let kind = match metric.kind {
        MetricType::Gauge => Encoded::Gauge,
        MetricType::Counter => Encoded::Counter,
        MetricType::Histogram => Encoded::Histogram,
    };
    // No unit: the encoder would append it to the name, which has it already.
    let mut encoder = encoder.encode_descriptor(metric.family(), metric.help, None, kind)?;
    for (labels, value) in family.samples() {
        if labels.is_empty() {
            // An empty label set would be written as `{}`.
            encode_value(metric.kind, value, &mut encoder)?;
        } else {
            encode_value(metric.kind, value, &mut encoder.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_value(kind: MetricType, value: Value, encoder: &mut MetricEncoder) -> fmt::Result {
    match (kind, value) {
        (_, Value::Histogram { sum, buckets }) => {
            let count = buckets.iter().map(|(_, own)| own).sum();
            encoder.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
        }
        (MetricType::Counter, Value::Number(number)) => match whole(number) {
            Some(whole) => encoder.encode_counter::<NoLabelSet, _, f64>(&whole.unsigned_abs(), None),
            None => encoder.encode_counter::<NoLabelSet, _, f64>(&number, None),
        },
        (_, Value::Number(number)) => match whole(number) {
            Some(whole) => encoder.encode_gauge(&whole),
            None => encoder.encode_gauge(&number),
        },
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        self.pairs().try_for_each(|label| label.encode(encoder.encode_label()))
    }
}
