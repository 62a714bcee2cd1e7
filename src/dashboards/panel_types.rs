//! Panels as this bundle draws them: one look for each kind.

use serde_json::{Map, Value, json};

use super::panel::{Money, NO_DATA, Panel, UNTOLD};

fn panel(plugin: &'static str, title: &'static str, options: Value) -> Panel {
    Panel {
        plugin,
        title,
        note: "",
        queries: Vec::new(),
        columns: Vec::new(),
        order: None,
        money: Money::None,
        empty: NO_DATA,
        untold: UNTOLD,
        told_by: Vec::new(),
        untold_by: Vec::new(),
        mappings: Vec::new(),
        words: Vec::new(),
        defaults: Map::new(),
        custom: Map::new(),
        options,
        overrides: Vec::new(),
        renames: Vec::new(),
        transformations: Vec::new(),
        slim: false,
        link: None,
        needs: None,
        same_as: None,
        points: None,
        foreign: None,
    }
}

/// Which direction of a change is good news.
#[derive(Clone, Copy)]
pub(crate) enum Better {
    Lower,
    Higher,
    Neither,
}

/// One number.
pub(crate) fn stat(title: &'static str) -> Panel {
    let options = json!({
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
        "textMode": "value", "colorMode": "value", "graphMode": "none", "justifyMode": "center",
        "orientation": "auto", "wideLayout": false, "showPercentChange": false, "percentChangeColorMode": "standard",
    });
    panel("stat", title, options).unit("short").set("color", json!({"mode": "fixed", "fixedColor": "text"}))
}

/// One number and its change; its query is made by [`super::promql::versus`].
pub(crate) fn versus(title: &'static str, better: Better) -> Panel {
    let mode = match better {
        Better::Lower => "inverted",
        Better::Higher => "standard",
        Better::Neither => "same_as_value",
    };
    let mut panel = stat(title).option("showPercentChange", json!(true)).option("percentChangeColorMode", json!(mode));
    panel.transformations.push(json!({"id": "sortBy", "options": {"fields": {}, "sort": [{"field": "at"}]}}));
    panel.transformations.push(json!({
        "id": "organize",
        "options": {"excludeByName": {"Time": true, "at": true}, "indexByName": {}, "renameByName": {}},
    }));
    panel
}

/// Lines with a light area.
pub(crate) fn chart(title: &'static str) -> Panel {
    let options = json!({
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    });
    let mut panel = panel("timeseries", title, options)
        .unit("short")
        .set("color", json!({"mode": "palette-classic"}))
        .set("min", json!(0));
    panel.custom = object(json!({
        "drawStyle": "line", "lineInterpolation": "monotone", "lineWidth": 2, "fillOpacity": 8,
        "gradientMode": "none", "showPoints": "auto", "pointSize": 5, "spanNulls": false, "insertNulls": false,
        "stacking": {"mode": "none", "group": "A"}, "axisPlacement": "auto", "axisLabel": "",
        "axisBorderShow": false, "axisColorMode": "text", "axisCenteredZero": false, "barAlignment": 0,
        "scaleDistribution": {"type": "linear"}, "thresholdsStyle": {"mode": "off"},
        "hideFrom": {"legend": false, "tooltip": false, "viz": false},
    }));
    panel
}

/// Many lines, which areas would blur.
pub(crate) fn lines(title: &'static str) -> Panel {
    chart(title).style("fillOpacity", json!(0)).style("showPoints", json!("never"))
}

/// Areas on top of each other.
pub(crate) fn stack(title: &'static str) -> Panel {
    chart(title)
        .style("stacking", json!({"mode": "normal", "group": "A"}))
        .style("fillOpacity", json!(45))
        .style("lineWidth", json!(1))
        .style("showPoints", json!("never"))
}

/// One bar per bucket, from its start to its end.
pub(crate) fn bars(title: &'static str) -> Panel {
    stack(title)
        .style("drawStyle", json!("bars"))
        .style("barAlignment", json!(1))
        .style("barWidthFactor", json!(0.85))
        .style("fillOpacity", json!(70))
}

/// The legend as a table with numbers, to the right, the greatest of the first number at the top.
pub(crate) fn legend_table(panel: Panel, calcs: &[(&str, &str)]) -> Panel {
    let (ids, names): (Vec<&str>, Vec<&str>) = calcs.iter().copied().unzip();
    panel.option(
        "legend",
        json!({
            "displayMode": "table", "placement": "right", "showLegend": true, "calcs": ids,
            "sortBy": names.first(), "sortDesc": true,
        }),
    )
}

pub(crate) fn table(title: &'static str) -> Panel {
    let options =
        json!({"showHeader": true, "cellHeight": "sm", "footer": {"show": false, "reducer": ["sum"], "fields": ""}});
    let mut panel = panel("table", title, options).unit("short");
    panel.custom = object(json!({"align": "auto", "cellOptions": {"type": "auto"}, "inspect": false, "minWidth": 60}));
    panel
}

/// Horizontal bars, longest first as its query sorts them.
pub(crate) fn ranking(title: &'static str) -> Panel {
    let options = json!({
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
        "orientation": "horizontal", "displayMode": "gradient", "valueMode": "text", "namePlacement": "auto",
        "text": {"titleSize": 13, "valueSize": 16}, "showUnfilled": true, "sizing": "manual", "minVizHeight": 16, "minVizWidth": 8, "maxVizHeight": 40,
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false},
    });
    panel("bargauge", title, options)
        .unit("short")
        .set("min", json!(0))
        .set("color", json!({"mode": "continuous-BlPu"}))
}

/// Coloured spans of states, one line per series under a name from labels, e.g. `{{provider}}`.
pub(crate) fn timeline(title: &'static str, name: &str) -> Panel {
    let options = json!({
        "mergeValues": true, "showValue": "never", "alignValue": "left", "rowHeight": 0.8, "perPage": 0,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
        "tooltip": {"mode": "single", "sort": "none"},
    });
    // Every state has its own colour; thresholds would put their bounds where the states' names belong.
    let mut panel =
        panel("state-timeline", title, options).set("color", json!({"mode": "fixed", "fixedColor": "text"}));
    // Without series Grafana complains of a missing time instead of saying the panel's own words; with this step it does
    // not, but forgets the legends.
    panel.transformations.push(json!({"id": "prepareTimeSeries", "options": {"format": "many"}}));
    let name = name.replace("{{", "${__field.labels.").replace("}}", "}");
    let mut panel = panel.set("displayName", json!(name));
    panel.custom = object(json!({
        "lineWidth": 0, "fillOpacity": 80, "spanNulls": false, "insertNulls": false,
        "hideFrom": {"legend": false, "tooltip": false, "viz": false},
    }));
    panel
}

pub(crate) fn heatmap(title: &'static str) -> Panel {
    let options = json!({
        "calculate": false, "cellGap": 1, "showValue": "never",
        "color": {"mode": "scheme", "scheme": "Spectral", "steps": 64, "reverse": true, "exponent": 0.5, "fill": "dark-orange", "scale": "exponential"},
        "yAxis": {"axisPlacement": "left", "unit": "s", "reverse": false},
        "rowsFrame": {"layout": "auto"}, "filterValues": {"le": 1e-9}, "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "legend": {"show": true}, "tooltip": {"mode": "single", "yHistogram": true, "showColorScale": true},
    });
    let mut panel = panel("heatmap", title, options).unit("short");
    panel.custom = object(json!({
        "hideFrom": {"legend": false, "tooltip": false, "viz": false}, "scaleDistribution": {"type": "linear"},
    }));
    panel
}

/// `value` must be an object; anything else gives none.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
