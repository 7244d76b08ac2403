//! The `Date` of a response: IMF-fixdate (RFC 9110 §5.6.7), made once a second.

use std::fmt::Write as _;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[derive(Debug, Default)]
pub struct Date {
    second: Option<u64>,
    text: String,
}

impl Date {
    pub fn at(&mut self, unix_ms: u64) -> &str {
        let second = unix_ms / 1000;
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            let (day, of_day) = (second / 86_400, second % 86_400);
            let (year, month, of_month) = civil(day);
            let _ = write!(
                self.text,
                "{}, {of_month:02} {} {year:04} {:02}:{:02}:{:02} GMT",
                DAYS[(day % 7) as usize],
                MONTHS[month],
                of_day / 3600,
                of_day / 60 % 60,
                of_day % 60,
            );
        }
        &self.text
    }
}

/// Year, month from 0 and day from 1 of a day since 1970, in the Gregorian calendar. Counts from March, so
/// that the leap day is the last of its year.
fn civil(day: u64) -> (u64, usize, u64) {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = ((from_march + 2) % 12) as usize;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::Date;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(Date::default().at(seconds * 1000 + 999), text);
        }
    }
}
