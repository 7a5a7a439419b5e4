//! The plots: SVG, one per question.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::series::{Points, Series};

/// Size of a plot, pixels.
const SIZE: (u32, u32) = (760, 260);

/// A plot: its file's ending, its caption, its lines by name.
type Plot<'a> = (&'a str, &'static str, Vec<(&'a str, &'a Points)>);

/// Draws the plots of a run into a folder. Returns their files and captions.
pub(super) fn draw(
    series: &Series,
    dir: &Path,
    prefix: &str,
) -> Result<Vec<(String, &'static str)>> {
    let end = series.probes.last().map_or(1.0, |(second, _)| *second);
    let expected: Points = vec![(0.0, series.expected), (end, series.expected)];
    let plots: [Plot<'_>; 4] = [
        (
            "probes",
            "Probes a second, all origins",
            vec![
                ("probes", &series.probes),
                ("one prober per check", &expected),
            ],
        ),
        (
            "packets",
            "Datagrams sent a second, per agent",
            vec![
                ("median", &series.packets[0]),
                ("worst", &series.packets[1]),
            ],
        ),
        (
            "cpu",
            "CPU per agent, percent of a core",
            vec![("median", &series.cpu[0]), ("worst", &series.cpu[1])],
        ),
        (
            "told",
            "Told a second by all agents",
            vec![("suspicions", &series.told[0]), ("deaths", &series.told[1])],
        ),
    ];
    let mut drawn = Vec::new();
    for (what, caption, lines) in plots {
        let file = format!("{prefix}-{what}.svg");
        plot(&dir.join(&file), caption, &lines).map_err(|error| anyhow!("{file}: {error}"))?;
        drawn.push((file, caption));
    }
    Ok(drawn)
}

fn plot(
    path: &Path,
    caption: &str,
    lines: &[(&str, &Points)],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points.iter());
    let right = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max).max(1e-3) * 1.1;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("seconds")
        .draw()?;
    let colours = [BLUE, RED];
    for ((name, points), colour) in lines.iter().zip(colours) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), &colour))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    area.present()?;
    Ok(())
}
