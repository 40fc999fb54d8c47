"""Words by which languages in Latin letters are told apart: the small ones that hold sentences together, and those that
prompts are full of. A word that several of these languages share is listed under each."""

from __future__ import annotations

WORDS = {
    "en": (
        "the a an of and with in on at is are was to from by under over above below near behind beside between its his her "
        "their my your our you this that these no not without for as into through across against around about only just any each both all "
        "some while where which who whose they she it has have made wearing holding sitting standing riding playing reading "
        "showing lies stands sits hangs rests glows drifts glides leans holds wears looking walking running flying eating drinking sleeping dancing surrounded covered filled lit seen says "
        "red blue green yellow black white pink purple orange grey gray brown golden silver dark bright small large big tiny "
        "huge old young new ancient wooden empty full one two three four five six seven eight nine ten twelve hundred "
        "cat dog bird horse fish wolf fox bear man woman girl boy child children people person face eyes hair hand hat dress "
        "coat shirt shoes house home tree trees forest mountain mountains river lake sea ocean beach sky cloud clouds sun moon "
        "star stars rain snow fog night day morning evening sunset sunrise light shadow shadows street road city town bridge "
        "castle church door window wall table chair book cup glass bowl bread apple flower flowers garden field grass stone "
        "water fire smoke gold paper painting photo picture photograph portrait landscape drawing background "
        "style color colour view close wide detailed soft warm cold sharp quiet beautiful cute funny realistic cinematic "
        "lighting shot sign letters words text board car bicycle train ship boat bottle knight king queen dragon "
    ),
    "de": (
        "der die das ein eine einen einem einer eines und mit im am auf in an ist sind war von zu zum zur unter über neben "
        "hinter vor zwischen ohne kein keine keinen keinem für als aus nach bei durch gegen um nicht nur auch noch sich dem "
        "den des wie wo sie er es ihr sein seine seinem ihre ihrem man hat haben trägt sitzt steht liegt hängt läuft geht "
        "fliegt isst trinkt schläft liest spielt zeigt schaut hält leuchtet rot rote roter rotes roten blau blaue blauer "
        "blaues grün grüne grüner grünes gelb gelbe gelber gelbes schwarz schwarze schwarzer schwarzes weiß weiße weißer "
        "weißes grau graue braun braune lila rosa golden goldene silbern dunkel hell klein kleine kleiner kleines groß große "
        "großer großes alt alte alter altes altem alten jung neu leer zwei drei vier fünf sechs sieben acht neun zehn zwölf "
        "katze hund vogel pferd fisch wolf fuchs bär mann frau mädchen junge kind kinder menschen gesicht augen haare hand "
        "hut kleid mantel hemd schuhe haus häuser baum bäume wald berg berge fluss see meer strand himmel wolke wolken sonne "
        "mond stern sterne regen schnee nebel nacht tag morgen abend sonnenuntergang licht schatten straße weg stadt dorf "
        "brücke schloss kirche tür fenster wand tisch stuhl buch tasse glas schale brot apfel blume blumen garten wiese gras "
        "stein wasser feuer rauch papier bild gemälde foto plakat zeichnung hintergrund stil farbe schild aufschrift "
        "buchstaben wort ritter könig königin drache"
    ),
    "fr": (
        "le la les l un une des du de d et avec dans sur est sont au aux sous près contre derrière devant entre sans pas pour "
        "par qui que en son sa ses leur leurs ce cette ces il elle ils elles on ne n se s plus très tout tous toute comme où "
        "chez vers depuis tour autour à a ont porte tient assis assise debout couché regarde marche court vole mange boit dort lit "
        "joue montre rouge bleu bleue bleus vert verte verts jaune jaunes noir noire noirs noires blanc blanche blancs rose "
        "gris grise violet brun doré dorée argenté sombre clair petit petite petits grand grande grands vieux vieille ancien "
        "jeune nouveau neuf vide deux trois quatre cinq six sept huit neuf dix douze cent chat chien oiseau cheval poisson "
        "loup renard ours homme femme fille garçon enfant enfants gens visage yeux cheveux main chapeau robe manteau chemise "
        "chaussures maison arbre arbres forêt montagne montagnes rivière lac mer plage ciel nuage nuages soleil lune étoile "
        "étoiles pluie neige brume nuit jour matin soir coucher lumière ombre ombres rue route ville village pont château "
        "église porte fenêtre mur table chaise livre tasse verre bol pain pomme fleur fleurs jardin champ herbe pierre eau "
        "feu fumée papier tableau peinture photo affiche portrait paysage dessin fond couleur panneau lettres mot texte "
        "voiture vélo train bateau bouteille chevalier roi reine"
    ),
    "es": (
        "el la los las un una unos unas de del y e con en sobre es son está están al a bajo cerca detrás delante entre sin no "
        "ni para por que su sus se lo le como más muy todo todos donde desde hasta hacia contra ante junto tras este esta "
        "ese cada solo sólo hay tiene lleva sostiene sentado sentada parado mira camina corre vuela come bebe duerme lee "
        "juega muestra dice cuelga rojo roja rojos rojas azul azules verde verdes amarillo amarilla negro negra negros negras "
        "blanco blanca blancos blancas rosa gris morado marrón dorado dorada plateado oscuro oscura claro pequeño pequeña "
        "gran grande grandes viejo vieja antiguo joven nuevo vacío vacía dos tres cuatro cinco seis siete ocho nueve diez doce "
        "cien mil gato gata perro pájaro caballo pez lobo zorro oso hombre mujer niña niño niños chica chico gente cara ojos "
        "pelo mano sombrero vestido abrigo camisa camiseta zapatos casa árbol árboles bosque montaña montañas río lago mar "
        "playa cielo nube nubes sol luna estrella estrellas lluvia nieve niebla noche día mañana tarde atardecer luz sombra "
        "sombras calle camino ciudad pueblo puente castillo iglesia puerta ventana pared muro mesa silla libro taza vaso "
        "plato pan manzana flor flores jardín campo hierba piedra agua fuego humo papel cuadro pintura foto cartel retrato "
        "paisaje dibujo fondo estilo color letras palabra texto coche bicicleta tren barco botella rey reina letrero número"
    ),
    "it": (
        "il lo la i gli le l un uno una di del dello della dei degli delle dell e ed con in nel nella nei sul sulla sui su è "
        "sono al alla ai a da dal dalla sotto sopra vicino dietro davanti tra fra senza non né per che chi suo sua suoi si "
        "come più molto tutto tutti dove ogni solo questo questa ha hanno porta tiene seduto seduta siede guarda cammina "
        "corre vola mangia beve dorme legge gioca mostra pende dice rosso rossa rossi rosse blu azzurro verde verdi giallo "
        "gialla nero nera neri nere bianco bianca bianchi rosa grigio viola marrone dorato dorata argento scuro chiaro piccolo "
        "piccola grande grandi vecchio vecchia antico giovane nuovo vuoto vuota due tre quattro cinque sei sette otto nove "
        "dieci dodici cento mille gatto gatti cane cani uccello cavallo pesce lupo volpe orso uomo donna ragazza ragazzo "
        "bambino bambini gente viso occhi capelli mano cappello vestito cappotto camicia scarpe casa albero alberi bosco "
        "montagna montagne fiume lago mare spiaggia cielo nuvola nuvole sole luna stella stelle pioggia neve nebbia notte "
        "giorno mattino sera tramonto luce ombra ombre strada via città paese ponte castello chiesa porta finestra muro "
        "tavolo sedia libro tazza bicchiere piatto pane mela fiore fiori giardino campo erba pietra acqua fuoco fumo carta "
        "quadro dipinto foto ritratto paesaggio disegno sfondo stile colore scritta lettere parola testo macchina treno "
        "barca bottiglia re regina cartello numero"
    ),
    "pt": (
        "o a os as um uma uns umas de do da dos das e com em no na nos nas num numa sobre é são está estão ao à sob perto "
        "atrás diante entre sem não nem para por pelo pela que seu sua seus suas se como mais muito tudo todos onde desde até "
        "este esta cada só apenas há tem veste segura sentado sentada olha caminha corre voa come bebe dorme lê joga toca "
        "mostra diz vermelho vermelha vermelhos vermelhas azul azuis verde verdes amarelo amarela preto preta branco branca "
        "rosa cinza roxo marrom castanho dourado dourada prateado escuro escura claro pequeno pequena grande grandes velho "
        "velha antigo jovem novo vazio vazia dois duas três quatro cinco seis sete oito nove dez doze cem mil gato gata "
        "cachorro cão pássaro cavalo peixe lobo raposa urso homem mulher menina menino criança crianças gente rosto olhos "
        "cabelo mão chapéu vestido casaco camisa sapatos casa árvore árvores floresta montanha montanhas rio lago mar praia "
        "céu nuvem nuvens sol lua estrela estrelas chuva neve névoa noite dia manhã tarde pôr luz sombra sombras rua caminho "
        "cidade vila ponte castelo igreja porta janela parede muro mesa cadeira livro xícara copo prato pão maçã flor flores "
        "jardim campo grama pedra água fogo fumaça papel quadro pintura foto cartaz retrato paisagem desenho fundo estilo cor "
        "letras palavra texto carro bicicleta trem comboio barco garrafa rei rainha placa número"
    ),
    "nl": (
        "de het een en met in op is zijn was van naar onder over naast achter voor tussen zonder geen niet als uit bij door "
        "tegen om te aan ook nog maar die dat deze dit zich hij zij ze haar hun wie waar er staat zit ligt hangt loopt gaat "
        "vliegt eet drinkt slaapt leest speelt toont kijkt houdt draagt rood rode blauw blauwe groen groene geel gele zwart "
        "zwarte wit witte grijs grijze bruin bruine roze paars gouden zilveren donker donkere licht klein kleine groot grote "
        "oud oude jong jonge nieuw nieuwe leeg lege twee drie vier vijf zes zeven acht negen tien twaalf honderd kat hond "
        "vogel paard vis wolf vos beer man vrouw meisje jongen kind kinderen mensen gezicht ogen haar hand hoed jurk jas "
        "schoenen huis boom bomen bos berg bergen rivier meer zee strand lucht wolk wolken zon maan ster sterren regen sneeuw "
        "mist nacht dag ochtend avond zonsondergang schaduw straat weg stad dorp brug kasteel kerk deur raam muur tafel stoel "
        "boek kop glas brood appel bloem bloemen tuin veld gras steen water vuur rook papier schilderij foto portret landschap "
        "tekening achtergrond stijl kleur bord letters woord tekst fiets fietsen trein schip fles koning koningin"
    ),
    # Known so that they are not taken for one of the others; the guard knows no more of them.
    "pl": "i w na z do nie się jest są ze od po pod nad przed bez oraz dla jak kot pies dom czerwony niebieski który która",
    "sv": "och på med en ett är som av till från under över utan inte det den katt hund hus röd blå två tre står sitter",
    "tr": "ve bir ile bu için üzerinde altında gibi olan var yok kedi köpek ev kırmızı mavi beyaz siyah iki üç büyük küçük",
    "id": "dan yang di dengan pada dari ke untuk sebuah seekor seorang tanpa tidak atas bawah kucing anjing merah biru dua tiga",
    "vi": "và một với trên trong của là không con người màu đỏ xanh dưới bên có những chiếc đang",
    "cs": "a v na s se je jsou z do pod nad bez nebo pro jako který která kočka pes dům červený modrý dva tři",
}  # fmt: skip
