//! A plot as SVG: panels side by side, each with points, their ranges, and a line through the medians.

use std::fmt::Write as _;

use integration_tests::bench::Spread;

/// Pixels of a panel with its labels.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 320.0;

/// Pixels around the axes of a panel.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;

/// Ticks of an axis, about.
const TICKS: f64 = 5.0;

/// Colours for light pages and, where the reader has asked for them, for dark ones.
const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.page { fill: #ffffff }
.grid { stroke: #d8dee4; stroke-width: 1 }
.axis { stroke: #57606a; stroke-width: 1 }
.line { fill: none; stroke: #0969da; stroke-width: 2 }
.range { stroke: #0969da; stroke-width: 1.5 }
.point { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .page { fill: #0d1117 }
  .grid { stroke: #30363d }
  .axis { stroke: #8b949e }
  .line, .range { stroke: #58a6ff }
  .point { fill: #58a6ff }
}
";

/// One pair of axes: documents to the right, the unit upwards, both from zero.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// What is counted upwards.
    pub(crate) unit: &'static str,
    pub(crate) points: Vec<Point>,
}

/// What was measured with so many documents.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: Spread,
}

/// The panels side by side, as a file that needs no other.
pub(crate) fn svg(panels: &[Panel]) -> String {
    let width = WIDTH * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" \
         height=\"{HEIGHT}\" role=\"img\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{HEIGHT}\"/>\n",
        panels.iter().map(|panel| panel.title).collect::<Vec<_>>().join(", "),
    );
    for (i, panel) in panels.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate({} 0)\">", WIDTH * i as f64);
        panel.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

impl Panel {
    fn draw(&self, svg: &mut String) {
        let most = |of: fn(&Point) -> f64| self.points.iter().map(of).fold(0.0, f64::max);
        let across = Axis::new(most(|point| point.x), LEFT, WIDTH - RIGHT);
        let upwards = Axis::new(most(|point| point.y.max), HEIGHT - BOTTOM, TOP);
        self.draw_axes(svg, &across, &upwards);

        let at = |point: &Point| format!("{:.1},{:.1}", across.place(point.x), upwards.place(point.y.median));
        let line = self.points.iter().map(at).collect::<Vec<String>>().join(" ");
        let _ = writeln!(svg, "<polyline class=\"line\" points=\"{line}\"/>");
        for point in &self.points {
            let (x, y) = (across.place(point.x), upwards.place(point.y.median));
            let (low, high) = (upwards.place(point.y.min), upwards.place(point.y.max));
            let _ = writeln!(
                svg,
                "<path class=\"range\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>\
                 <circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"
            );
        }
    }

    fn draw_axes(&self, svg: &mut String, across: &Axis, upwards: &Axis) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let _ = writeln!(svg, "<text class=\"title\" x=\"{LEFT}\" y=\"22\">{}</text>", self.title);
        for value in upwards.ticks() {
            let y = upwards.place(value);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.5,
                short(value)
            );
        }
        for value in across.ticks() {
            let x = across.place(value);
            let _ = writeln!(
                svg,
                "<path class=\"axis\" d=\"M{x:.1} {bottom}v5\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 20.0,
                short(value)
            );
        }
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">documents</text>\
             <text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 12.0,
            f64::midpoint(TOP, bottom),
            self.unit
        );
    }
}

/// A scale from 0 to a little more than the greatest value.
struct Axis {
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(most: f64, from: f64, to: f64) -> Axis {
        // Never of length 0, and room for the last point.
        Axis { most: most.max(f64::MIN_POSITIVE) * 1.05, from, to }
    }

    /// The pixel of a value.
    fn place(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * value / self.most
    }

    /// Multiples of 1, 2 or 5 and a power of ten.
    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let wanted = self.most / TICKS;
        let power = 10f64.powf(wanted.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|each| each * power).find(|step| *step >= wanted);
        let step = step.unwrap_or(wanted);
        (0..).map(move |i| f64::from(i) * step).take_while(|value| *value <= self.most)
    }
}

/// `0`, `2.5`, `400 k`, `1.6 M`.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        1e6.. => (value / 1e6, " M"),
        1e4.. => (value / 1e3, " k"),
        _ => (value, ""),
    };
    // What is left over of a binary fraction is no digit of it.
    format!("{}{unit}", (value * 1e3).round() / 1e3)
}
