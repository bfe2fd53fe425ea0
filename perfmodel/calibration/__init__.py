"""Parameters fitted on measurements, and intervals from what the fit had not seen."""
