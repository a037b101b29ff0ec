package search

func (x *extraction) evaluated(e Evaluator, p *Param) {}
