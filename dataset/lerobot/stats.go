package lerobot

import (
	"math"

	"github.com/ddvla/ddvla/dataset"
)

// histogram counts the values of a camera's three channels, from which all of its
// statistics follow without an error.
type histogram [3][256]int64

func (h *histogram) add(rgb []byte) {
	for i := 0; i+2 < len(rgb); i += 3 {
		h[0][rgb[i]]++
		h[1][rgb[i+1]]++
		h[2][rgb[i+2]]++
	}
}

// statistic is a feature's entry of stats.json.
type statistic map[string]any

// quantileKeys are LeRobot's (compute_stats.py), besides q01 and q99.
func quantileKeys() map[string]float64 {
	return map[string]float64{"q10": 0.10, "q50": 0.50, "q90": 0.90}
}

// statistic gives an image's, in 0..1, of shape [3, 1, 1].
func (h *histogram) statistic(frames int) statistic {
	out := statistic{"count": []int{frames}}
	put := func(key string, of func(c *[256]int64) float64) {
		var shaped [3][1][1]float64
		for c := range h {
			shaped[c][0][0] = of(&h[c]) / 255
		}
		out[key] = shaped
	}
	put("min", func(c *[256]int64) float64 { return quantile(c, 0) })
	put("max", func(c *[256]int64) float64 { return quantile(c, 1) })
	put("mean", func(c *[256]int64) float64 { m, _ := moments(c); return m })
	put("std", func(c *[256]int64) float64 { _, s := moments(c); return s })
	put("q01", func(c *[256]int64) float64 { return quantile(c, 0.01) })
	put("q99", func(c *[256]int64) float64 { return quantile(c, 0.99) })
	for key, q := range quantileKeys() {
		put(key, func(c *[256]int64) float64 { return quantile(c, q) })
	}
	return out
}

func moments(c *[256]int64) (mean, std float64) {
	var n, sum float64
	for v, count := range c {
		n += float64(count)
		sum += float64(v) * float64(count)
	}
	mean = sum / n
	for v, count := range c {
		std += float64(count) * (float64(v) - mean) * (float64(v) - mean)
	}
	return mean, math.Sqrt(std / n)
}

// quantile is numpy.quantile's "linear".
func quantile(c *[256]int64, q float64) float64 {
	var n int64
	for _, count := range c {
		n += count
	}
	at := func(rank int64) float64 {
		v := 0
		for rank >= c[v] {
			rank -= c[v]
			v++
		}
		return float64(v)
	}
	whole, share := math.Modf(q * float64(n-1))
	below := at(int64(whole))
	return below + share*(at(min(int64(whole)+1, n-1))-below)
}

// stats writes meta/stats.json.
func (w *writer) stats() error {
	all := map[string]statistic{}
	s, err := w.reader.Statistics()
	if err != nil {
		return err
	}
	add := func(key, file string, c *dataset.Columns) error {
		out := statistic{"min": c.Min, "max": c.Max, "mean": c.Mean, "std": c.Std, "q01": c.Q01, "q99": c.Q99, "count": []int{w.info.Frames}}
		for name, q := range quantileKeys() {
			values, err := w.reader.Quantiles(file, q)
			if err != nil {
				return err
			}
			out[name] = values[0]
		}
		all[key] = out
		return nil
	}
	if err := add(actionKey, dataset.ActionFile, &s.Action); err != nil {
		return err
	}
	if s.Proprio != nil {
		if err := add(stateKey, dataset.ProprioFile, &s.Proprio.Columns); err != nil {
			return err
		}
	}
	for i, c := range w.info.Cameras {
		all[imageKey+c.Name] = w.pictures[i].statistic(w.info.Frames)
	}
	return w.json(statsFile, all)
}
