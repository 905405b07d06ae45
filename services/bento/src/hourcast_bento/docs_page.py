"""The documentation page: one file that reads /openapi.json and needs no other host."""

__all__ = ["DOCS_PAGE"]

DOCS_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Hourcast API</title><style>
:root{color-scheme:light dark;--ink:#16202c;--dim:#5b6b7c;--line:#dfe5ec;--page:#f7f9fb;--card:#fff;--get:#0b7a55;--post:#9a5b00}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf4;--dim:#93a4b6;--line:#2a3644;--page:#0f151c;--card:#161f29;--get:#4cc79b;--post:#e0a44e}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:860px;margin:0 auto;padding:28px 16px 80px}h1{font-size:26px;margin:0 0 4px}h2{font-size:13px;text-transform:uppercase;letter-spacing:.08em;color:var(--dim);margin:30px 0 8px}
p{margin:4px 0;color:var(--dim)}details{background:var(--card);border:1px solid var(--line);border-radius:10px;margin:8px 0}
summary{cursor:pointer;padding:11px 14px;display:flex;gap:12px;align-items:baseline;flex-wrap:wrap}summary b{font:600 12px ui-monospace,monospace;width:40px}
summary code{font:600 14px ui-monospace,monospace}summary span{color:var(--dim)}.get b{color:var(--get)}.post b{color:var(--post)}
form{padding:0 14px 14px;display:grid;gap:8px}label{display:grid;grid-template-columns:130px 1fr;gap:10px;align-items:center}label small{grid-column:2;color:var(--dim)}
input,textarea{font:14px ui-monospace,monospace;padding:7px 9px;border:1px solid var(--line);border-radius:7px;background:var(--page);color:var(--ink);width:100%;min-width:0}
button{justify-self:start;font:600 14px system-ui;padding:8px 16px;border:0;border-radius:7px;background:var(--get);color:#fff;cursor:pointer}
pre{margin:0;padding:12px;max-height:420px;overflow:auto;background:var(--page);border:1px solid var(--line);border-radius:7px;font:12.5px/1.45 ui-monospace,monospace;white-space:pre-wrap;word-break:break-word}
a{color:inherit}@media(max-width:520px){label{grid-template-columns:1fr}label small{grid-column:1}}
</style></head><body><main><h1>Hourcast API</h1><p id="about"></p>
<p>Machine-readable: <a href="/openapi.json">/openapi.json</a> · <a href="/metrics">/metrics</a> · <a href="/readyz">/readyz</a> · <a href="/livez">/livez</a></p><div id="list"></div></main>
<script>
const el=(tag,text,props={})=>Object.assign(document.createElement(tag),{textContent:text||''},props);
fetch('/openapi.json').then(r=>r.json()).then(api=>{
 document.getElementById('about').textContent=api.info.description;
 const groups={};
 for(const[path,methods]of Object.entries(api.paths))for(const[method,op]of Object.entries(methods))(groups[(op.tags||['other'])[0]]??=[]).push([path,method,op]);
 for(const[name,ops]of Object.entries(groups)){
  const list=document.getElementById('list');list.append(el('h2',name));
  for(const[path,method,op]of ops){
   const box=el('details','',{className:method}),head=el('summary');
   head.append(el('b',method.toUpperCase()),el('code',path),el('span',op.description||op.summary||''));
   const form=el('form'),out=el('pre');out.hidden=true;
   for(const p of op.parameters||[]){const l=el('label'),i=el('input','',{name:p.name,placeholder:String(p.schema.default??(p.schema.examples??[]).join(' or '))});i.setAttribute('aria-label',p.name);l.append(el('code',p.name),i);if(p.description)l.append(el('small',p.description));form.append(l)}
   if(op.requestBody){const t=el('textarea','',{name:'__body',rows:6,value:'{"bars": {}}'});t.setAttribute('aria-label','body');form.append(t)}
   form.append(el('button','Send',{type:'submit'}),out);
   form.onsubmit=async e=>{e.preventDefault();const q=new URLSearchParams(),opts={method:method.toUpperCase()};
    for(const[k,v]of new FormData(form)){if(k==='__body'){opts.body=v;opts.headers={'Content-Type':'application/json'}}else if(v)q.set(k,v)}
    const url=path+(q.size?'?'+q:'');out.hidden=false;out.textContent='GET '+url;
    try{const r=await fetch(url,opts),t=await r.text();let s=t;try{s=JSON.stringify(JSON.parse(t),null,1)}catch{}
     out.textContent=method.toUpperCase()+' '+url+'\\n'+r.status+'\\n\\n'+(s.length>20000?s.slice(0,20000)+'\\n…':s)}catch(err){out.textContent='the server does not answer'}};
   box.append(head,form);list.append(box)}}
}).catch(()=>{document.getElementById('about').textContent='the server does not answer'});
</script></body></html>
"""
