//! The dashboards of the relays that one has: what these can never tell is left out, and what is left fills the screen.

use anyhow::anyhow;
use promql_parser::label::MatchOp;
use promql_parser::parser::token::{T_LOR, T_LUNLESS};
use promql_parser::parser::{self, Expr, VectorSelector};

use super::column::WIDTH;
use super::dashboard::{Dashboard, Row};
use super::panel::{Money, Panel};
use super::promql;
use crate::model::Scope;
use crate::relay::unsupported::{unsupported_reason, unsupported_scopes};
use crate::relay::{Product, Unsupported};
use crate::relays::PRODUCTS;

/// The kinds of the relays; none stands for all that there are.
pub(crate) struct Relays<'a>(pub &'a [&'static Product]);

impl Relays<'_> {
    /// Tells each panel which relays can fill it, and leaves out of a dashboard what none of them can; `None` when nothing
    /// is left. For all relays that there are it stays whole.
    ///
    /// # Errors
    /// When an expression cannot be parsed.
    pub(crate) fn fit(&self, mut dashboard: Dashboard) -> anyhow::Result<Option<Dashboard>> {
        for row in &mut dashboard.rows {
            for (_, panel) in row.panels.iter_mut().chain(&mut row.instead) {
                self.attribute(panel)?;
            }
        }
        if self.0.is_empty() {
            return Ok(Some(dashboard));
        }
        let mut heading = None;
        let mut rows = Vec::new();
        for mut row in dashboard.rows {
            // Of a part that begins with a row that is left out, the next row is the first.
            heading = row.heading.take().or(heading);
            if let Some(row) = self.row(row)? {
                rows.push(Row { heading: heading.take(), ..row });
            }
        }
        dashboard.rows = rows;
        Ok((!dashboard.rows.is_empty()).then_some(dashboard))
    }

    /// Which kinds can tell a panel's numbers: those of a table's first query, or of any other panel's.
    fn attribute(&self, panel: &mut Panel) -> anyhow::Result<()> {
        for product in if self.0.is_empty() { PRODUCTS } else { self.0 } {
            let alone = Relays(std::slice::from_ref(product));
            let known = panel.needs.map_or(Ok(true), |metric| alone.tell(metric))?;
            let mut told = panel.foreign.is_some();
            for query in panel.queries.iter().take(if panel.columns.is_empty() { usize::MAX } else { 1 }) {
                told |= alone.tell(&query.expr)?;
            }
            let kinds = if known && told { &mut panel.told_by } else { &mut panel.untold_by };
            if !kinds.contains(&product.label) {
                kinds.push(product.label);
            }
        }
        Ok(())
    }

    fn row(&self, row: Row) -> anyhow::Result<Option<Row>> {
        let full: u32 = row.panels.iter().map(|(width, _)| width).sum();
        let mut panels = Vec::new();
        for (width, panel) in row.panels {
            panels.extend(self.panel(panel)?.map(|panel| (width, panel)));
        }
        for (width, panel) in row.instead {
            let used: u32 = panels.iter().map(|(width, _)| width).sum();
            if used + width <= full {
                panels.extend(self.panel(panel)?.map(|panel| (width, panel)));
            }
        }
        stretch(&mut panels, full);
        Ok((!panels.is_empty()).then_some(Row { panels, instead: Vec::new(), ..row }))
    }

    /// The panel with the queries and columns that can have numbers. A table has its names from its first query.
    fn panel(&self, mut panel: Panel) -> anyhow::Result<Option<Panel>> {
        if panel.foreign.is_some() {
            return Ok(Some(panel));
        }
        if let Some(metric) = panel.needs
            && !self.tell(metric)?
        {
            return Ok(None);
        }
        let mut queries = Vec::new();
        for (at, query) in panel.queries.into_iter().enumerate() {
            match self.tell(&query.expr)? {
                true => queries.push(query),
                false if at == 0 && !panel.columns.is_empty() => return Ok(None),
                false => {}
            }
        }
        panel.queries = queries;
        if panel.queries.is_empty() {
            return Ok(None);
        }
        let asked = |from: &str| from.strip_prefix('#').is_none_or(|id| panel.queries.iter().any(|it| it.id == id));
        panel.columns.retain(|column| asked(column.from));
        // Somebody must take the room that is left.
        if panel.columns.iter().all(|column| column.is_narrow())
            && let Some(first) = panel.columns.first_mut()
        {
            first.properties.retain(|(property, _)| *property != WIDTH);
        }
        panel.order = panel.order.filter(|(by, ..)| match by.starts_with('#') {
            true => asked(by),
            false => panel.columns.iter().any(|column| column.title == *by),
        });
        if !self.tell("llm_relay_currency_info")? {
            panel.money = Money::None;
        }
        Ok(Some(panel))
    }

    /// Whether an expression has an answer of at least one of the relays.
    fn tell(&self, expr: &str) -> anyhow::Result<bool> {
        let expr = promql::filled(expr);
        let parsed = parser::parse(&expr).map_err(|error| anyhow!("{error} in {expr}"))?;
        Ok(self.0.iter().any(|product| tells(product.unsupported, &parsed)))
    }
}

/// Makes panels that are beside each other as wide as `full` in all, each in proportion.
fn stretch(panels: &mut [(u32, Panel)], full: u32) {
    let total: u32 = panels.iter().map(|(width, _)| width).sum();
    let mut before = 0;
    let mut end = 0;
    for (width, _) in panels {
        before += *width;
        let begin = std::mem::replace(&mut end, before * full / total);
        *width = end - begin;
    }
}

fn tells(unsupported: &'static [Unsupported], expr: &Expr) -> bool {
    let tells = |expr: &Expr| tells(unsupported, expr);
    match expr {
        Expr::Binary(it) if it.op.id() == T_LOR => tells(&it.lhs) || tells(&it.rhs),
        Expr::Binary(it) if it.op.id() == T_LUNLESS => tells(&it.lhs),
        Expr::Binary(it) => tells(&it.lhs) && tells(&it.rhs),
        Expr::Aggregate(it) => tells(&it.expr),
        Expr::Unary(it) => tells(&it.expr),
        Expr::Paren(it) => tells(&it.expr),
        Expr::Subquery(it) => tells(&it.expr),
        Expr::Call(it) => it.args.args.iter().all(|argument| tells(argument)),
        Expr::VectorSelector(it) => told(unsupported, it),
        Expr::MatrixSelector(it) => told(unsupported, &it.vs),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => true,
    }
}

fn told(unsupported: &'static [Unsupported], selector: &VectorSelector) -> bool {
    let Some(metric) = selector.name.as_deref().and_then(promql::family) else { return true };
    let of_scope = |scope: Scope| {
        let mut matchers = selector.matchers.matchers.iter().filter(|it| matches!(it.op, MatchOp::Equal));
        matchers.any(|it| matches!(it.name.as_str(), "scope" | "dimension") && it.value == scope.label())
    };
    unsupported_reason(unsupported, metric.name).is_none()
        && !unsupported_scopes(unsupported, metric.name).any(|(scope, _)| of_scope(scope))
}
