package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
)

// A plot is groups of horizontal bars on one axis that begins at zero.
type plot struct {
	File   string
	Title  string
	Axis   string
	Mark   float64 // a line is drawn there, if not at zero
	Groups []group
}

// A group has a bar for each thing that is compared, in the same order in each.
type group struct {
	Name string
	Bars []bar
}

type bar struct {
	Name  string
	Value float64
}

// Sizes, in pixels.
const (
	plotWidth  = 760
	leftMargin = 150
	barsWidth  = 520
	topMargin  = 64
	barHeight  = 16
	groupSpace = 30
)

var colours = []string{"#1f5fa8", "#9db4cc", "#c9a227", "#8a8f98", "#b5651d", "#4f8f6b"}

// svg draws the plot.
func (p plot) svg() []byte {
	top, y := 0.0, topMargin
	for _, g := range p.Groups {
		y += groupSpace + barHeight*len(g.Bars)
		for _, b := range g.Bars {
			top = max(top, b.Value)
		}
	}
	step := tick(top)
	bottom := y + 10
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, bottom+50)
	fmt.Fprintf(&out, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	p.text(&out, 16, 28, "start", "17", p.Title)
	scale := barsWidth / (math.Ceil(top/step) * step)
	for v := 0.0; v <= top+step/2; v += step {
		x := leftMargin + int(v*scale)
		fmt.Fprintf(&out, `<line x1="%d" y1="%d" x2="%[1]d" y2="%[3]d" stroke="#dddddd"/>`+"\n", x, topMargin-10, bottom)
		p.text(&out, x, bottom+16, "middle", "12", fmt.Sprintf("%.4g", v))
	}
	p.text(&out, leftMargin+barsWidth/2, bottom+38, "middle", "12", p.Axis)
	p.bars(&out, scale)
	if p.Mark != 0 {
		x := leftMargin + int(p.Mark*scale)
		fmt.Fprintf(&out, `<line x1="%d" y1="%d" x2="%[1]d" y2="%[3]d" stroke="#333333" stroke-dasharray="4 3"/>`+"\n", x, topMargin-10, bottom)
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func (p plot) bars(out *bytes.Buffer, scale float64) {
	y := topMargin
	for _, g := range p.Groups {
		p.text(out, 16, y+12, "start", "13", g.Name)
		y += barHeight + 4
		for i, b := range g.Bars {
			width := max(1, int(b.Value*scale))
			p.text(out, leftMargin-8, y+12, "end", "12", b.Name)
			fmt.Fprintf(out, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", leftMargin, y+1, width, barHeight-3, colours[i%len(colours)])
			p.text(out, leftMargin+width+5, y+12, "start", "11", cell(b.Value))
			y += barHeight
		}
		y += groupSpace - barHeight - 4
	}
}

func (plot) text(out *bytes.Buffer, x, y int, anchor, size, text string) {
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="%s" font-size="%s" fill="#222222">%s</text>`+"\n", x, y, anchor, size, html.EscapeString(text))
}

// tick returns the distance of lines of which four to ten are up to top.
func tick(top float64) float64 {
	if top <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(top)))
	steps := []float64{0.1, 0.2, 0.25, 0.5, 1, 2, 2.5}
	i := slices.IndexFunc(steps, func(s float64) bool { return top/(s*power) <= 8 })
	return steps[i] * power
}
