//! The little of SVG that is needed.

use std::fmt::{self, Write};

/// A drawing, as it grows. Shapes have classes, which the style sheet gives their looks.
pub(super) struct Svg(String);

impl Svg {
    /// A white page of this size, with what shapes refer to.
    pub(super) fn new(width: f64, height: f64, definitions: &str) -> Self {
        let mut svg = Self(String::new());
        svg.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n{definitions}\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
        ));
        svg
    }

    fn add(&mut self, what: fmt::Arguments<'_>) {
        self.0.write_fmt(what).expect("a string takes all");
        self.0.push('\n');
    }

    /// A rectangle; `title` is shown when it is pointed at.
    pub(super) fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), title: &str) {
        let ((x, y), (width, height)) = (at, size);
        let place = format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\""
        );
        match title {
            "" => self.add(format_args!("{place}/>")),
            _ => self.add(format_args!("{place}><title>{}</title></rect>", Escaped(title))),
        }
    }

    /// The same, as opaque as said, from 0 to 1.
    pub(super) fn veil(&mut self, class: &str, at: (f64, f64), size: (f64, f64), opacity: f64) {
        let ((x, y), (width, height)) = (at, size);
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" opacity=\"{opacity:.2}\"/>"
        ));
    }

    /// A path, in SVG's letters and numbers.
    pub(super) fn path(&mut self, class: &str, path: &str, title: &str) {
        match title {
            _ if path.is_empty() => {}
            "" => self.add(format_args!("<path class=\"{class}\" d=\"{path}\"/>")),
            _ => self.add(format_args!(
                "<path class=\"{class}\" d=\"{path}\"><title>{}</title></path>",
                Escaped(title)
            )),
        }
    }

    /// A line from one point to another.
    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.add(format_args!(
            "<path class=\"{class}\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    /// A line of text.
    pub(super) fn text(&mut self, class: &str, at: (f64, f64), text: &str) {
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            at.0,
            at.1,
            Escaped(text)
        ));
    }

    /// The whole drawing.
    pub(super) fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// Text between tags.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            control if control < ' ' => f.write_char(' '),
            other => f.write_char(other),
        })
    }
}
