//! Line charts as SVG files, for the report.

use std::path::{Path, PathBuf};

use plotters::prelude::*;

/// A chart's words and scales.
#[derive(Clone, Copy, Debug)]
pub struct Chart<'a> {
    /// Above it.
    pub title: &'a str,
    /// Below it.
    pub x_label: &'a str,
    /// Beside it.
    pub y_label: &'a str,
    /// The horizontal scale is logarithmic; all x are above 0 then.
    pub log_x: bool,
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, by x.
    pub points: Vec<(f64, f64)>,
}

/// A chart that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw {}: {words}; check that its folder exists and can be written", path.display())]
pub struct PlotError {
    path: PathBuf,
    words: String,
}

/// What share of a sample lies at or below each of its values.
#[must_use]
pub fn distribution(name: &str, values: &[f64]) -> Series {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let steps = sorted
        .iter()
        .enumerate()
        .map(|(i, &value)| (value, (i + 1) as f64 / n));
    Series {
        name: name.to_owned(),
        points: steps.collect(),
    }
}

/// Draws a chart.
///
/// # Errors
///
/// If the file cannot be written.
pub fn lines(path: &Path, chart: Chart<'_>, series: &[Series]) -> Result<(), PlotError> {
    draw(path, chart, series).map_err(|error| PlotError {
        path: path.to_owned(),
        words: error.to_string(),
    })
}

const COLOURS: [RGBColor; 6] = [
    RGBColor(0xd4, 0x4d, 0x1c),
    RGBColor(0x2a, 0x6f, 0xb0),
    RGBColor(0x5b, 0x8c, 0x3a),
    RGBColor(0x8a, 0x4f, 0xa3),
    RGBColor(0x80, 0x80, 0x80),
    RGBColor(0xc2, 0x9b, 0x0c),
];

fn draw(
    path: &Path,
    chart: Chart<'_>,
    series: &[Series],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || series.iter().flat_map(|line| line.points.iter().copied());
    let x_max = points().map(|point| point.0).fold(1.0, f64::max);
    let x_min = points().map(|point| point.0).fold(x_max, f64::min);
    let y_max = points().map(|point| point.1).fold(0.0, f64::max).max(1e-9) * 1.05;
    let root = SVGBackend::new(path, (760, 440)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(&root);
    builder
        .caption(chart.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64);
    // Two kinds of scale are two types; what is drawn on them is the same.
    macro_rules! draw_on {
        ($x:expr) => {{
            let mut area = builder.build_cartesian_2d($x, 0.0..y_max)?;
            area.configure_mesh()
                .x_desc(chart.x_label)
                .y_desc(chart.y_label)
                .light_line_style(WHITE)
                .draw()?;
            for (line, colour) in series.iter().zip(COLOURS.iter().cycle()) {
                let style = colour.stroke_width(2);
                area.draw_series(LineSeries::new(line.points.iter().copied(), style))?
                    .label(line.name.as_str())
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
                if line.points.len() <= 20 {
                    let dots = line
                        .points
                        .iter()
                        .map(|&at| Circle::new(at, 3, colour.filled()));
                    area.draw_series(dots)?;
                }
            }
            area.configure_series_labels()
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.4))
                .position(SeriesLabelPosition::MiddleRight)
                .draw()?;
        }};
    }
    if chart.log_x {
        draw_on!((x_min..x_max).log_scale());
    } else {
        draw_on!(0.0..x_max);
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_rises_to_one() {
        let series = distribution("d", &[3.0, 1.0, 2.0, 4.0]);
        assert_eq!(
            series.points,
            [(1.0, 0.25), (2.0, 0.5), (3.0, 0.75), (4.0, 1.0)]
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let chart = Chart {
            title: "t",
            x_label: "x",
            y_label: "y",
            log_x: false,
        };
        let path = Path::new("no-such-folder/chart.svg");
        let error = lines(path, chart, &[distribution("d", &[1.0])]).unwrap_err();
        assert!(error.to_string().contains("no-such-folder/chart.svg"));
    }
}
