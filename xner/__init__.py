"""How well does named-entity recognition learnt in one language carry over to another?"""
