//! What a search has to look at: the cells of a grid about as fine as the area is wide, that around the center and its
//! neighbours, without those that the area doesn't reach.

use super::{Cell, EARTH_RADIUS_METERS, Point, RADIANS_PER_DEGREE, STEPS, Unit};
use smallvec::SmallVec;

/// Half the circumference of the map of Web Mercator, in meters.
const MERCATOR_MAX: f64 = 20_037_726.37;

/// What is searched, in the search's unit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shape {
    Circle {
        radius: f64,
    },
    /// Around the center: `width` along its parallels, `height` along the meridian.
    Box {
        width: f64,
        height: f64,
    },
}

/// A search around a valid point.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Search {
    pub center: Point,
    pub shape: Shape,
    pub unit: Unit,
}

/// Where an area ends, in degrees; the longitudes may lie beyond those that there are.
struct Bounds {
    west: f64,
    south: f64,
    east: f64,
    north: f64,
}

/// Columns to the east and rows to the north of the center's cell, in the order in which cells are searched.
const NEIGHBOURS: [(i32, i32); 9] = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];

impl Search {
    /// The distance of a point from the center in meters, if the point is in the area.
    pub fn distance(&self, point: Point) -> Option<f64> {
        let meters = self.unit.meters();
        let (center, distance) = (self.center, self.center.distance(point));
        let is_inside = match self.shape {
            Shape::Circle { radius } => distance <= radius * meters,
            Shape::Box { width, height } => {
                let beside = Point { longitude: center.longitude, ..point };
                let above = Point { latitude: center.latitude, ..point };
                point.distance(beside) <= width * meters / 2.0 && point.distance(above) <= height * meters / 2.0
            }
        };
        is_inside.then_some(distance)
    }
    /// The cells that cover the area, each once.
    pub fn cells(&self) -> SmallVec<[Cell; 9]> {
        let bounds = self.bounds();
        let mut step = self.estimated_step();
        if step > 1 && !reaches(Cell::around(self.center, step), &bounds) {
            step -= 1;
        }
        let cell = Cell::around(self.center, step);
        let mut cells: SmallVec<[Cell; 9]> = SmallVec::new();
        for (columns, rows) in NEIGHBOURS {
            let neighbour = cell.neighbour(columns, rows);
            // In a grid of two columns a cell has the same neighbour on both sides.
            if (step < 2 || is_useful(cell, columns, rows, &bounds)) && !cells.contains(&neighbour) {
                cells.push(neighbour);
            }
        }
        cells
    }
    /// How fine a grid whose cells are no smaller than the area's radius is.
    fn estimated_step(&self) -> u8 {
        let radius = match self.shape {
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => (width / 2.0 * (width / 2.0) + height / 2.0 * (height / 2.0)).sqrt(),
        };
        let mut range = radius * self.unit.meters();
        if range == 0.0 {
            return STEPS;
        }
        let mut step = -1;
        // Ends: even the smallest number becomes large by doubling. What is finer than the grid is searched in its cells.
        while range < MERCATOR_MAX && step < 2 * STEPS as i32 {
            range *= 2.0;
            step += 1;
        }
        // Columns become narrow towards the poles.
        let latitude = self.center.latitude.abs();
        step -= (latitude > 66.0) as i32 + (latitude > 80.0) as i32;
        step.clamp(1, STEPS as i32) as u8
    }
    fn bounds(&self) -> Bounds {
        let meters = self.unit.meters();
        let (half_width, half_height) = match self.shape {
            Shape::Circle { radius } => (meters * radius, meters * radius),
            Shape::Box { width, height } => (meters * (width / 2.0), meters * (height / 2.0)),
        };
        let Point { longitude, latitude } = self.center;
        let rows = half_height / EARTH_RADIUS_METERS / RADIANS_PER_DEGREE;
        // The parallel nearer to a pole has more degrees in the same width.
        let parallel = if latitude < 0.0 { latitude - rows } else { latitude + rows };
        let columns = half_width / EARTH_RADIUS_METERS / (parallel * RADIANS_PER_DEGREE).cos() / RADIANS_PER_DEGREE;
        Bounds { west: longitude - columns, south: latitude - rows, east: longitude + columns, north: latitude + rows }
    }
}

/// Whether the area ends within the cells around `cell`.
fn reaches(cell: Cell, bounds: &Bounds) -> bool {
    let latitudes = |rows| cell.neighbour(0, rows).extent().1;
    let longitudes = |columns| cell.neighbour(columns, 0).extent().0;
    !(latitudes(1).max < bounds.north
        || latitudes(-1).min > bounds.south
        || longitudes(1).max < bounds.east
        || longitudes(-1).min > bounds.west)
}

/// Whether the area goes beyond `cell` on the side where its neighbour is.
fn is_useful(cell: Cell, columns: i32, rows: i32, bounds: &Bounds) -> bool {
    let (longitudes, latitudes) = cell.extent();
    !(rows < 0 && latitudes.min < bounds.south
        || rows > 0 && latitudes.max > bounds.north
        || columns < 0 && longitudes.min < bounds.west
        || columns > 0 && longitudes.max > bounds.east)
}
