"""How the page looks: what Streamlit's own settings cannot say."""

__all__ = ["PAGE", "REPORT"]

PAGE = """
<style>
[data-testid="stHeader"], [data-testid="stToolbar"], [data-testid="stDecoration"], footer {display: none}
[data-testid="stMainBlockContainer"] {padding: 1.4rem 1.6rem 3rem; max-width: 1500px}
.hc-brand {font-weight: 650; letter-spacing: .02em; opacity: .75; font-size: .92rem}
.hc-line {font-size: clamp(1.45rem, 3.3vw, 2.5rem); font-weight: 650; line-height: 1.2; letter-spacing: -.01em; font-variant-numeric: tabular-nums}
.hc-line small {font-weight: 450; opacity: .7; font-size: .55em; white-space: nowrap}
.hc-sub {opacity: .75; font-size: .95rem; font-variant-numeric: tabular-nums}
.hc-up {color: #26a69a} .hc-down {color: #e0704f} .hc-flat {opacity: .6}
.hc-badge {display: inline-block; padding: .18rem .6rem; border-radius: .5rem; background: #E69F00; color: #1c1300; font-weight: 650; font-size: .85rem; margin-bottom: .4rem}
.hc-warn {padding: .5rem .8rem; border-radius: .5rem; border-left: 4px solid #E69F00; background: rgba(230,159,0,.13); margin: .3rem 0}
.hc-cards {display: grid; grid-template-columns: repeat(auto-fit, minmax(215px, 1fr)); gap: .6rem; margin: .2rem 0 .6rem}
.hc-card {border: 1px solid rgba(128,140,160,.3); border-radius: .6rem; padding: .6rem .8rem; font-variant-numeric: tabular-nums}
.hc-card b {display: block; font-size: 1.35rem; font-weight: 650; line-height: 1.3}
.hc-card span {font-size: .82rem; opacity: .75} .hc-card p {font-size: .82rem; line-height: 1.35; margin: .25rem 0 0; opacity: .85}
.hc-card a {font-weight: 600}
.hc-track {position: relative; height: 12px; margin: .15rem 0; border-radius: 3px; background: rgba(128,140,160,.18)}
.hc-track i {position: absolute; display: block}
.hc-bounds {top: 3px; bottom: 3px; background: rgba(124,92,255,.45); border-radius: 3px}
.hc-dot {top: 0; bottom: 0; width: 4px; margin-left: -2px; background: #7c5cff; border-radius: 2px}
.hc-mark {top: -3px; bottom: -3px; border-left: 2px dashed currentColor; opacity: .8}
@media (max-width: 640px) {[data-testid="stMainBlockContainer"] {padding: .8rem .7rem 2rem}}
</style>
"""
# The report scrolls within the window: it forbids scripts, so that nothing can measure its height.
REPORT = """
<style>
[data-testid="stMainBlockContainer"] {padding: .8rem .8rem 0; max-width: none}
[data-testid="stIFrame"] {height: calc(100dvh - 115px) !important; border: 1px solid rgba(128,140,160,.3); border-radius: .6rem}
</style>
"""
