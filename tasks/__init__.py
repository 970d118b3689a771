"""The computation of CamNet: slides → patches → training → inference → explain → report."""
