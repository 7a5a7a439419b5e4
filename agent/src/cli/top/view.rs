//! What `watchfire top` shows of its [`Model`]: marks and words say everything, and
//! colours say it again.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};
use watchfire_table::{Flags, TableVerdict};

use super::model::{Link, Model, Pane, Story};
use crate::gossip::status::MemberStatus;

/// Rows of a pane that the keys are not in, its head aside.
const SMALL: u16 = 4;

const HELP: [&str; 13] = [
    "up, down, j, k   one row; PgUp, PgDn ten; g, G the first, the last",
    "Tab              origins, members, transitions",
    "Enter            look into an origin; of a member, what it decided",
    "Esc              back; no search any more",
    "/                search: parts of names, names with *, and",
    "                 owner:edge-1  reason:timeout  is:down  is:forced",
    "a                all origins, or those that are not simply up",
    "s                sort: worst, last changed, by name, by owner",
    "r                in an origin's record: ask again",
    "q, Ctrl-C        quit",
    "",
    "● up   ✕ down   ? unknown or suspected   ◐ draining   ! cannot measure",
    "decided: origins whose verdict is that member's",
];

/// Draws all of it.
pub(super) fn view(model: &Model, frame: &mut Frame<'_>) {
    let alarms = alarms(model);
    let alarm_rows = u16::try_from(alarms.len()).unwrap_or(0).min(3);
    let [head, alarm, members, origins, events, help] = {
        let rows = |pane, count: usize| {
            let count = u16::try_from(count).unwrap_or(u16::MAX);
            match model.pane == pane {
                true => Constraint::Fill(3),
                false if pane == Pane::Origins => Constraint::Fill(1),
                false => Constraint::Length(count.clamp(1, SMALL) + 1),
            }
        };
        Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(alarm_rows),
            rows(Pane::Members, model.pop.members.len()),
            rows(Pane::Origins, model.shown.len()),
            rows(Pane::Events, model.events.len()),
            Constraint::Length(1),
        ])
        .areas(frame.area())
    };
    frame.render_widget(Paragraph::new(header(model)), head);
    frame.render_widget(Paragraph::new(alarms), alarm);
    draw_members(model, frame, members);
    draw_origins(model, frame, origins);
    draw_events(model, frame, events);
    frame.render_widget(Paragraph::new(help_line(model)), help);
    if let Some(story) = &model.story {
        draw_story(story, frame);
    }
    if model.help {
        let lines: Vec<Line<'_>> = HELP.map(Line::raw).into();
        let area = middle(frame.area(), 74, 15);
        frame.render_widget(Clear, area);
        let block = Block::bordered().title(" keys; any of them closes this ");
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }
}

fn header(model: &Model) -> Vec<Line<'static>> {
    let [unknown, up, down, draining] = model.counts();
    let pop = &model.pop;
    let link = match &model.link {
        Link::Asking => Span::raw("asking the agent"),
        Link::Live => Span::styled("live", color(Color::Green)),
        Link::Lost(0, why) => Span::styled(format!("NO ANSWER: {}", plain(why)), alarm()),
        Link::Lost(since_ms, _) => Span::styled(
            format!("NO ANSWER since {}; waiting for it", clock(*since_ms)),
            alarm(),
        ),
    };
    let title = Line::from(vec![
        Span::styled("watchfire ", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("{}  ", plain(&pop.node))),
        link,
        Span::raw(format!(
            "  {} UTC  {} members, {} checks",
            clock(model.now_ms),
            pop.members.len(),
            pop.checks
        )),
    ]);
    let of = match model.left_out {
        0 => String::new(),
        left => format!(" (and {left} more that are up)"),
    };
    let mut counts = vec![Span::raw(format!("{} origins{of}:", model.origins.len()))];
    let each = [
        (TableVerdict::Up, up),
        (TableVerdict::Down, down),
        (TableVerdict::Unknown, unknown),
        (TableVerdict::Draining, draining),
    ];
    for (verdict, count) in each {
        let text = format!("  {} {count} {verdict}", mark(verdict));
        counts.push(Span::styled(text, color(tint(verdict))));
    }
    let given: usize = pop.overrides.in_force.values().sum();
    if given > 0 {
        counts.push(Span::raw(format!("  overrides: {given}")));
    }
    if model.lateness.count > 0 {
        counts.push(Span::raw(format!(
            "  late p99 {}",
            ms(model.lateness.p99_us)
        )));
    }
    vec![title, Line::from(counts)]
}

fn alarms(model: &Model) -> Vec<Line<'static>> {
    let pop = &model.pop;
    if model.link == Link::Asking || pop.node.is_empty() {
        return Vec::new();
    }
    let mut alarms = Vec::new();
    if let Some(braked) = pop.braked {
        alarms.push(format!(
            "BRAKED for {}: {} failing checks are not called Down, the uplink may be at fault",
            span(braked.for_s * 1_000),
            braked.held
        ));
    }
    if let Some(it) = &pop.overrides.frozen {
        let (who, why) = (&it.who, &it.why);
        alarms.push(format!(
            "FROZEN by {who}: no verdict changes in any table ({why})"
        ));
    }
    if let Some(it) = &pop.evicted {
        alarms.push(format!("EVICTED from the POP by {} ({})", it.who, it.why));
    }
    if !model.fresh {
        alarms.push("the table is STALE: nobody writes it".to_owned());
    }
    if let Some(ailment) = &pop.prober_ailment {
        alarms.push(format!("this agent CANNOT PROBE: {ailment}"));
    }
    if pop.draining {
        alarms.push("this agent is draining".to_owned());
    }
    for it in &pop.evictions {
        alarms.push(format!(
            "member {} is evicted by {} ({})",
            it.name, it.who, it.why
        ));
    }
    alarms
        .into_iter()
        .map(|text| Line::styled(plain(&text), alarm()))
        .collect()
}

fn draw_members(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let load = model.load();
    let most = load.values().copied().max().unwrap_or(0).max(1);
    let rows = model.pop.members.iter().map(|member| {
        let decided = load.get(member.name.as_str()).copied().unwrap_or(0);
        let style = match is_sick(member) {
            true => color(Color::Red),
            false => Style::new(),
        };
        let heard = match member.answered_ms_ago {
            _ if member.name == model.pop.node => "itself".to_owned(),
            Some(ms) => format!("{} ago", span(ms)),
            None => "never".to_owned(),
        };
        let off = member.clock_off_ms;
        Row::new([
            plain(&member.name),
            format!("{} {}", member_mark(member), remark(member)),
            format!("{decided:>7} {}", "▪".repeat(decided * 8 / most)),
            heard,
            off.map_or_else(String::new, |ms| format!("{ms} ms")),
        ])
        .style(style)
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(17),
        Constraint::Length(12),
        Constraint::Length(10),
    ];
    let head = ["MEMBER", "STATE", "DECIDED", "HEARD", "CLOCK OFF"];
    draw_table(
        model,
        Pane::Members,
        (head.into(), rows.collect(), &widths),
        frame,
        area,
    );
}

fn draw_origins(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let which = match (model.all, model.search.is_empty()) {
        (_, false) => "that match",
        (true, true) => "of all",
        (false, true) => "not simply up",
    };
    let title = format!("{} {which}, {}", model.shown.len(), model.sort.words());
    let [above, area] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Line::raw(title), above);
    let visible = usize::from(area.height.max(1) - 1);
    let first = first_row(model, Pane::Origins, visible);
    let rows = model.shown.iter().skip(first).take(visible);
    let rows = rows.filter_map(|name| {
        let it = model.origins.get(name)?;
        let flags = match it.flags {
            Flags::NONE => String::new(),
            flags => format!(" {flags}"),
        };
        let held = match it.since_ms {
            0 => "not yet".to_owned(),
            since_ms => span(model.now_ms.saturating_sub(since_ms)),
        };
        let verdict = format!("{} {}{flags}", mark(it.verdict), it.verdict);
        Some(Row::new([
            Cell::from(plain(name)),
            Cell::from(verdict).style(color(tint(it.verdict))),
            Cell::from(held),
            Cell::from(ms(u64::from(it.latency_us))),
            Cell::from(it.reason.clone()),
            Cell::from(plain(&it.owner)),
        ]))
    });
    let widths = [
        Constraint::Fill(3),
        Constraint::Length(17),
        Constraint::Length(11),
        Constraint::Length(8),
        Constraint::Fill(2),
        Constraint::Fill(1),
    ];
    let head = ["ORIGIN", "VERDICT", "FOR", "LATENCY", "BECAUSE", "OWNER"];
    draw_table(
        model,
        Pane::Origins,
        (head.into(), rows.collect(), &widths),
        frame,
        area,
    );
}

fn draw_events(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let visible = usize::from(area.height.max(1) - 1);
    let first = first_row(model, Pane::Events, visible);
    let rows = model.events.iter().rev().skip(first).take(visible);
    let rows = rows.map(|it| {
        let to = verdict_of(&it.to);
        Row::new([
            Cell::from(clock(it.since_ms)),
            Cell::from(plain(&it.origin)),
            Cell::from(format!("{} -> {} {}", it.from, mark(to), it.to)).style(color(tint(to))),
            Cell::from(plain(&it.reason)),
            Cell::from(plain(&it.owner)),
        ])
    });
    let widths = [
        Constraint::Length(11),
        Constraint::Fill(3),
        Constraint::Length(21),
        Constraint::Fill(2),
        Constraint::Fill(1),
    ];
    let head = ["TRANSITIONS", "ORIGIN", "", "BECAUSE", "BY"];
    draw_table(
        model,
        Pane::Events,
        (head.into(), rows.collect(), &widths),
        frame,
        area,
    );
}

/// The first row of what a pane has that is seen, so that the cursor is.
fn first_row(model: &Model, pane: Pane, visible: usize) -> usize {
    match model.pane == pane {
        true => (model.cursor + 1).saturating_sub(visible.max(1)),
        false => 0,
    }
}

type Content<'a> = (Vec<&'a str>, Vec<Row<'a>>, &'a [Constraint]);

fn draw_table(
    model: &Model,
    pane: Pane,
    (head, rows, widths): Content<'_>,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let active = model.pane == pane;
    let bar = match active {
        true => Modifier::REVERSED,
        false => Modifier::UNDERLINED,
    };
    let visible = usize::from(area.height.max(1) - 1);
    let cursor = match pane {
        Pane::Members => model.cursor,
        // They begin with the first that is seen.
        Pane::Origins | Pane::Events => {
            model.cursor - first_row(model, pane, visible).min(model.cursor)
        }
    };
    let table = Table::new(rows, widths)
        .header(Row::new(head).style(Style::new().add_modifier(bar)))
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD))
        .highlight_symbol("> ")
        .column_spacing(1);
    let mut state = TableState::new().with_selected(active.then_some(cursor));
    frame.render_stateful_widget(table, area, &mut state);
}

fn help_line(model: &Model) -> Line<'static> {
    if model.typing {
        return Line::raw(format!(
            "search: {}_   Enter keeps it, Esc ends it",
            plain(&model.search)
        ));
    }
    let search = match model.search.as_str() {
        "" => String::new(),
        search => format!("  [{}]", plain(search)),
    };
    Line::raw(format!(
        "q quit  ? keys  / search  a all  s sort  Tab pane  Enter look into{search}"
    ))
}

fn draw_story(story: &Story, frame: &mut Frame<'_>) {
    let area = frame.area();
    frame.render_widget(Clear, area);
    let title = format!(" {}   Esc back, r again, up and down ", plain(&story.name));
    let lines: Vec<Line<'_>> = match &story.lines {
        None => vec![Line::raw("asking the agent")],
        Some(lines) => lines
            .iter()
            .skip(story.at)
            .take(usize::from(area.height))
            .map(|line| Line::raw(plain(line)))
            .collect(),
    };
    let text = Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .block(Block::bordered().title(title));
    frame.render_widget(text, area);
}

fn middle(area: Rect, wide: u16, high: u16) -> Rect {
    let (wide, high) = (wide.min(area.width), high.min(area.height));
    Rect {
        x: area.x + (area.width - wide) / 2,
        y: area.y + (area.height - high) / 2,
        width: wide,
        height: high,
    }
}

fn is_sick(member: &MemberStatus) -> bool {
    member.state != "alive" || !member.prober_healthy
}

fn remark(member: &MemberStatus) -> String {
    let more = [
        (member.draining, "draining"),
        (member.braked, "braked"),
        (!member.prober_healthy, "cannot measure"),
    ];
    let more = more.into_iter().filter(|(is, _)| *is).map(|(_, word)| word);
    let words: Vec<&str> = std::iter::once(member.state.as_str()).chain(more).collect();
    words.join(", ")
}

fn member_mark(member: &MemberStatus) -> char {
    match member.state.as_str() {
        "suspect" => '?',
        "dead" => '✕',
        "left" => '–',
        _ if !member.prober_healthy => '!',
        _ if member.draining => '◐',
        _ => '●',
    }
}

const fn mark(verdict: TableVerdict) -> char {
    match verdict {
        TableVerdict::Up => '●',
        TableVerdict::Down => '✕',
        TableVerdict::Unknown => '?',
        TableVerdict::Draining => '◐',
    }
}

fn verdict_of(word: &str) -> TableVerdict {
    let all = [TableVerdict::Up, TableVerdict::Down, TableVerdict::Draining];
    let found = all.into_iter().find(|it| it.as_str() == word);
    found.unwrap_or(TableVerdict::Unknown)
}

const fn tint(verdict: TableVerdict) -> Color {
    match verdict {
        TableVerdict::Up => Color::Green,
        TableVerdict::Down => Color::Red,
        TableVerdict::Unknown => Color::Yellow,
        TableVerdict::Draining => Color::Magenta,
    }
}

fn color(color: Color) -> Style {
    Style::new().fg(color)
}

fn alarm() -> Style {
    color(Color::Red).add_modifier(Modifier::BOLD)
}

/// A time of the day, UTC.
fn clock(ms: u64) -> String {
    let s = ms / 1_000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

/// How long something lasts, in at most ten characters.
fn span(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3_600 => format!("{}m {}s", s / 60, s % 60),
        s @ 3_600..86_400 => format!("{}h {}m", s / 3_600, s / 60 % 60),
        s => format!("{}d {}h", s / 86_400, s / 3_600 % 24),
    }
}

fn ms(us: u64) -> String {
    format!("{}.{} ms", us / 1_000, us / 100 % 10)
}

/// Without anything that a terminal would obey, or that turns a line around.
fn plain(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let shown = text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::model::Event;
    use super::super::model::tests::{after, event, keys, screen, three};
    use super::*;
    use crate::gossip::status::Braked;

    /// The frame as text.
    fn drawn(model: &Model, wide: u16, high: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(wide, high)).unwrap();
        terminal.draw(|frame| view(model, frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn on_eighty_by_twenty_four_the_worst_is_in_sight() {
        let mut next = screen(2, &[]);
        next.pop.braked = Some(Braked { for_s: 75, held: 9 });
        next.events = vec![event("shop-2", "down")];
        let model = after(three(), Event::Screen(Box::new(next)));
        let text = drawn(&model, 80, 24);
        for part in [
            "edge-1",
            "3 origins:  ● 1 up  ✕ 1 down  ? 1 unknown",
            "BRAKED for 1m 15s: 9 failing checks",
            "? suspect",
            "> shop-2",
            "✕ down",
            "bad_status",
            "up -> ✕ down",
            "00:01:00",
            "q quit",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(!text.contains("shop-1"), "it is simply up\n{text}");
        assert!(drawn(&keys(model, "a"), 80, 24).contains("shop-1"));
    }

    #[test]
    fn many_are_scrolled_and_the_cursor_is_in_sight() {
        let names: Vec<String> = (0..500).map(|n| format!("origin-{n:03}")).collect();
        let rows: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), TableVerdict::Down, "edge-1"))
            .collect();
        let model = after(Model::default(), Event::Screen(Box::new(screen(1, &rows))));
        assert!(drawn(&model, 80, 24).contains("> origin-000"));
        let model = keys(model, "G");
        let text = drawn(&model, 80, 24);
        assert!(text.contains("> origin-499"), "{text}");
        let model = keys(model, "kkk");
        assert!(drawn(&model, 80, 24).contains("> origin-496"));
    }

    #[test]
    fn names_are_harmless_and_no_size_is_too_small() {
        let rows = [
            ("a\u{1b}[2Jb\u{202e}c", TableVerdict::Down, "edge-1"),
            ("<script>", TableVerdict::Down, "edge-1"),
        ];
        let model = after(Model::default(), Event::Screen(Box::new(screen(1, &rows))));
        let text = drawn(&model, 80, 24);
        assert!(text.contains("a\u{fffd}[2Jb\u{fffd}c"), "{text}");
        assert!(!text.contains('\u{1b}'));
        let model = keys(model, "\n");
        for (wide, high) in [(1, 1), (10, 3), (20, 6), (300, 100)] {
            drawn(&model, wide, high);
            drawn(&three(), wide, high);
            drawn(&keys(three(), "?"), wide, high);
            drawn(&keys(three(), "\t"), wide, high);
        }
    }

    #[test]
    fn an_agent_that_does_not_answer_is_said() {
        let text = drawn(&Model::default(), 80, 24);
        assert!(text.contains("asking the agent"), "{text}");
        let none = after(Model::default(), Event::Lost("no agent answers".into()));
        assert!(drawn(&none, 80, 24).contains("NO ANSWER: no agent answers"));
        let lost = after(three(), Event::Lost("gone".into()));
        let text = drawn(&lost, 80, 24);
        assert!(text.contains("NO ANSWER since 00:01:01; waiting"), "{text}");
        assert!(text.contains("shop-2"), "what was known stays");
    }
}
