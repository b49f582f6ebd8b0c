//! Places on the earth. No two are the same, so that none are equally far from anywhere: whose turn is first among such is
//! nobody's promise.

use super::{Generator, words};
use crate::support::Command;

impl Generator {
    pub(super) fn places(&mut self) -> Command {
        let key = self.key_of("g");
        match self.rng.u32(..20) {
            0..6 => {
                let mut args = words(["GEOADD"], [key]);
                for option in ["NX", "XX", "CH"] {
                    if self.rng.u32(..8) == 0 {
                        args.push(option.into());
                    }
                }
                for _ in 0..self.rng.usize(1..5) {
                    args.extend([self.longitude(), self.latitude(), self.element()]);
                }
                args
            }
            6 => {
                let mut args = words(["GEODIST"], [key, self.element(), self.element()]);
                if self.rng.bool() {
                    args.push(self.unit());
                }
                args
            }
            7 => words([self.pick(["GEOHASH", "GEOPOS"])], [key, self.element(), self.element()]),
            8 => words(["ZREM"], [key, self.element()]),
            9..14 => {
                let mut args = words(["GEOSEARCH"], [key]);
                self.search_area(&mut args);
                self.search_options(&mut args);
                args
            }
            14 | 15 => {
                let mut args = words(["GEOSEARCHSTORE"], [self.key_of("g"), key]);
                self.search_area(&mut args);
                // Of these, those that make no choice: what is stored must be the same.
                if self.rng.u32(..4) == 0 {
                    // Distances are no places; and 7.0 prints them with 17 digits.
                    args[1] = b"d0".to_vec();
                    args.push(b"STOREDIST".to_vec());
                }
                args
            }
            16 | 17 => {
                let name = self.pick(["GEORADIUS", "GEORADIUS_RO", "GEORADIUS"]);
                let mut args = words([name], [key, self.longitude(), self.latitude(), self.radius(), self.unit()]);
                self.search_options(&mut args);
                if name == "GEORADIUS" && self.rng.u32(..4) == 0 {
                    args.extend(words(["STORE"], [self.key_of("g")]));
                }
                args
            }
            18 => {
                let name = self.pick(["GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"]);
                let mut args = words([name], [key, self.element(), self.radius(), self.unit()]);
                self.search_options(&mut args);
                args
            }
            _ => words(["ZRANGE", "d0", "0", "-1"], []),
        }
    }

    fn search_area(&mut self, args: &mut Command) {
        match self.rng.u32(..8) {
            0..3 => args.extend(words(["FROMMEMBER"], [self.element()])),
            _ => args.extend(words(["FROMLONLAT"], [self.longitude(), self.latitude()])),
        }
        match self.rng.u32(..3) {
            0 => args.extend(words(["BYBOX"], [self.radius(), self.radius(), self.unit()])),
            _ => args.extend(words(["BYRADIUS"], [self.radius(), self.unit()])),
        }
    }

    fn search_options(&mut self, args: &mut Command) {
        for option in ["WITHDIST", "withcoord", "WITHHASH"] {
            if self.rng.u32(..4) == 0 {
                args.push(option.into());
            }
        }
        if self.rng.bool() {
            args.push(self.pick(["ASC", "DESC", "asc"]).into());
        }
        if self.rng.u32(..3) == 0 {
            args.extend(words(["COUNT"], [self.small()]));
            if self.rng.u32(..3) == 0 {
                args.push(b"ANY".to_vec());
            }
        }
    }

    fn longitude(&mut self) -> Vec<u8> {
        match self.rng.u32(..20) {
            0 => self.pick(["180.1", "-181", "x", "nan", "inf", ""]).into(),
            1 => format!("{}", 180.0 - self.rng.f64() / 1e3).into_bytes(),
            2 => format!("{}", self.rng.f64() / 1e3 - 180.0).into_bytes(),
            3..12 => format!("{}", self.rng.f64() * 0.1 + 13.3).into_bytes(),
            _ => format!("{}", self.rng.f64() * 360.0 - 180.0).into_bytes(),
        }
    }
    fn latitude(&mut self) -> Vec<u8> {
        match self.rng.u32(..20) {
            0 => self.pick(["85.06", "-90", "x", "nan"]).into(),
            1 => format!("{}", 85.05 - self.rng.f64() / 1e3).into_bytes(),
            2 => format!("{}", self.rng.f64() / 1e3 - 85.05).into_bytes(),
            3..12 => format!("{}", self.rng.f64() * 0.1 + 52.5).into_bytes(),
            _ => format!("{}", self.rng.f64() * 170.0 - 85.0).into_bytes(),
        }
    }
    fn radius(&mut self) -> Vec<u8> {
        match self.rng.u32(..20) {
            0 => self.pick(["-1", "0", "x", "nan", "1e3", "30000"]).into(),
            1..10 => self.rng.u32(1..20).to_string().into_bytes(),
            _ => format!("{:.3}", self.rng.f64() * 10_f64.powi(self.rng.i32(0..8))).into_bytes(),
        }
    }
    fn unit(&mut self) -> Vec<u8> {
        self.pick(["m", "km", "KM", "ft", "mi", "km", "km", "ly"]).into()
    }
}
