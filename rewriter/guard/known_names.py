"""Names that prompts are full of, for text in which a capital letter does not give them away: prompts in lower case,
German, and scripts without capitals. A line, with those
after it that begin with "|", is one person, place, work or maker; its forms stand for one another."""

from __future__ import annotations

_NAMES = """
paris|París|Parigi|Parijs|巴黎|パリ|Париж|باريس|पेरिस
london|londres|londra|londen|伦敦|ロンドン|런던|Лондон|لندن|लंदन
berlin|berlín|berlino|berlijn|柏林|ベルリン|베를린|Берлин|برلين|बर्लिन
hamburg|hamburgo|amburgo
münchen|munich|múnich|monaco di baviera|慕尼黑|ミュンヘン|뮌헨|Мюнхен
köln|cologne|colonia
bremen
wien|vienna|vienne|viena|wenen|维也纳|ウィーン|Вена|فيينا
prag|prague|praga|praag|布拉格|プラハ|프라하|Прага
rome|roma|罗马|ローマ|로마|Рим|روما|रोम
venice|venezia|venise|venecia|veneza|venedig|venetië|威尼斯|ヴェネツィア|베네치아|Венеция|البندقية
florence|firenze|florencia|florença|florenz|佛罗伦萨|フィレンツェ
milan|milano|mailand|米兰|ミラノ
naples|napoli|nápoles|neapel
madrid|马德里|マドリード|마드리드|Мадрид|مدريد
barcelona|barcelone|barcellona|巴塞罗那|バルセロナ|바르셀로나|Барселона|برشلونة
lisbon|lisboa|lisbonne|lisbona|lissabon|里斯本|リスボン|Лиссабон
amsterdam|阿姆斯特丹|アムステルダム|암스테르담|Амстердам
new york|nueva york|nova york|纽约|ニューヨーク|뉴욕|Нью-Йорк|نيويورك|न्यूयॉर्क
los angeles|洛杉矶|ロサンゼルス
chicago|芝加哥|シカゴ
san francisco|旧金山|サンフランシスコ
tokyo|tokio|tóquio|东京|東京|도쿄|Токио|طوكيو|टोक्यो
kyoto|kioto|京都|교토|Киото
osaka|大阪|오사카
sapporo|札幌
shibuya|渋谷|涩谷
shinjuku|新宿
akihabara|秋葉原
beijing|pekín|pékin|peking|北京|베이징|Пекин|بكين|बीजिंग
shanghai|上海|상하이|Шанхай|शंघाई
hong kong|香港|홍콩|Гонконг
xi'an|西安
mohe|漠河
seoul|séoul|首尔|ソウル|서울|Сеул
busan|부산
jeju|제주도|济州岛|済州島
moscow|moskau|moscou|moscú|mosca|moskou|莫斯科|モスクワ|모스크바|Москва|موسكو|मास्को
saint petersburg|sankt petersburg|Санкт-Петербург|Петербург
istanbul|estambul|伊斯坦布尔|イスタンブール|이스탄불|Стамбул|إسطنبول
cairo|le caire|el cairo|kairo|开罗|カイロ|Каир|القاهرة|काहिरा
giza|gizeh|الجيزة
dubai|dubái|迪拜|ドバイ|두바이|Дубай|دبي|दुबई
baghdad|bagdad|بغداد
damascus|damaskus|damas|damasco|دمشق
beirut|beyrouth|بيروت
mecca|مكة
sinai|سيناء
petra|البتراء
mumbai|bombay|孟买|ムンバイ|मुंबई
delhi|德里|デリー|Дели|दिल्ली
jaipur|जयपुर
varanasi|benares|वाराणसी|बनारस
kolkata|calcutta|कोलकाता
ganges|gange|恒河|गंगा
volga|wolga|Волга
altai|Алтай
lake como
west lake|西湖
lake constance|bodensee
huangshan|黄山
taishan|泰山
mount everest|everest|珠穆朗玛峰|エベレスト|에베레스트|Эверест|إيفرست|एवरेस्ट
mount fuji|mt fuji|fuji|fujiyama|富士山|후지산|Фудзи|Фудзияма
mount aso|阿蘇山
kilimanjaro|乞力马扎罗|キリマンジャロ|Килиманджаро
himalaya|himalayas|喜马拉雅|ヒマラヤ|히말라야|Гималаи|हिमालय
hallasan|한라산
sahara|撒哈拉|サハラ|사하라|Сахара
mars|marte|火星|화성|Марс|المريخ|मंगल ग्रह
saturn|saturne|saturno|土星|토성|Сатурн|زحل
jupiter|júpiter|木星|목성|Юпитер|المشتري
eiffel tower|tour eiffel|eiffelturm|torre eiffel|eiffeltoren|埃菲尔铁塔|エッフェル塔|에펠탑|Эйфелева башня|برج إيفل
|एफिल टावर
big ben|大本钟|ビッグベン
louvre|卢浮宫|ルーヴル|루브르|Лувр|اللوفر
hermitage|Эрмитаж
colosseum|colosseo|colisée|coliseo|coliseu|kolosseum|斗兽场|コロッセオ|콜로세움|Колизей
sagrada familia|sagrada família|圣家堂|サグラダ・ファミリア
brandenburger tor|brandenburg gate|勃兰登堡门
elbphilharmonie
neuschwanstein|新天鹅堡
statue of liberty|freiheitsstatue|statue de la liberté|estatua de la libertad|自由女神|自由の女神|자유의 여신상
|Статуя Свободы
golden gate bridge|golden gate|金门大桥
times square|时代广场|タイムズスクエア
taj mahal|泰姬陵|タージ・マハル|타지마할|Тадж-Махал|تاج محل|ताजमहल|ताज महल
machu picchu|马丘比丘|マチュピチュ|마추픽추|Мачу-Пикчу
great wall|große mauer|grande muraille|gran muralla|长城|万里の長城|만리장성|Великая стена
forbidden city|故宫|紫禁城
tokyo tower|东京塔|東京タワー|도쿄타워
tokyo station|東京駅
kiyomizu|清水寺
gyeongbokgung|경복궁
namsan tower|남산타워
burj khalifa|برج خليفة|哈利法塔|ブルジュ・ハリファ
nevsky|Невский проспект
kremlin|kreml|克里姆林宫|クレムリン|Кремль
white house|weißes haus|白宫
stonehenge|巨石阵|ストーンヘンジ
vincent van gogh|van gogh|文森特·梵高|梵高|凡高|フィンセント・ファン・ゴッホ|ゴッホ|빈센트 반 고흐|반 고흐|고흐
|Ван Гог|فان غوخ|वैन गॉग
claude monet|monet|克劳德·莫奈|莫奈|モネ|모네|Моне|مونيه
pablo picasso|picasso|毕加索|ピカソ|피카소|Пикассо|بيكاسو|पिकासो
salvador dalí|salvador dali|dalí|dali|达利|サルバドール・ダリ|Дали
leonardo da vinci|da vinci|列奥纳多·达·芬奇|达芬奇|达·芬奇|レオナルド・ダ・ヴィンチ|ダ・ヴィンチ|레오나르도 다빈치
|Леонардо да Винчи|ليوناردو دا فينشي|लियोनार्डो दा विंची
michelangelo|michel-ange|miguel ángel|米开朗基罗|ミケランジェロ|미켈란젤로|Микеланджело
rembrandt|伦勃朗|レンブラント|렘브란트|Рембрандт
vermeer|维米尔|フェルメール
gustav klimt|klimt|克里姆特|クリムト|클림트|Климт
edvard munch|蒙克|ムンク|Мунк
caravaggio|卡拉瓦乔|カラヴァッジョ|Караваджо
botticelli|波提切利
francisco de goya|goya|戈雅|ゴヤ|Гойя
modigliani|Модильяни
frida kahlo|弗里达·卡罗|フリーダ・カーロ|프리다 칼로|Фрида Кало
andy warhol|warhol|安迪·沃霍尔|ウォーホル|앤디 워홀
banksy|班克西|バンクシー|뱅크시|Бэнкси
hokusai|葛飾北斎|北斎|葛饰北斋|호쿠사이|Хокусай
hiroshige|歌川広重|広重
studio ghibli|ghibli|吉卜力|スタジオジブリ|ジブリ|지브리|Гибли
hayao miyazaki|miyazaki|宫崎骏|宮崎駿|미야자키
wes anderson|韦斯·安德森
tim burton|蒂姆·伯顿
pixar|皮克斯|ピクサー|픽사
disney|迪士尼|ディズニー|디즈니|Дисней
mona lisa|la joconde|joconde|gioconda|蒙娜丽莎|モナ・リザ|모나리자|Мона Лиза|الموناليزا|मोना लिसा
starry night|星月夜|Звёздная ночь
albert einstein|einstein|爱因斯坦|アインシュタイン|아인슈타인|Эйнштейн|أينشتاين|आइंस्टीन
isaac newton|newton|牛顿|ニュートン|뉴턴|Ньютон
marie curie|居里夫人|マリー・キュリー|마리 퀴리|Мария Кюри
charles darwin|darwin|达尔文|ダーウィン
nikola tesla|tesla|特斯拉|テスラ|테슬라|Тесла
sigmund freud|freud|弗洛伊德|フロイト
shakespeare|莎士比亚|シェイクスピア|셰익스피어|Шекспир|شكسبير
beethoven|贝多芬|ベートーヴェン|베토벤|Бетховен
mozart|莫扎特|モーツァルト|모차르트|Моцарт
chopin|肖邦|ショパン|쇼팽|Шопен
goethe|歌德|ゲーテ
kafka|卡夫卡|カフカ|Кафка
napoleon|napoléon|napoleón|napoleone|拿破仑|ナポレオン|나폴레옹|Наполеон|نابليون|नेपोलियन
cleopatra|cléopâtre|kleopatra|克利奥帕特拉|クレオパトラ|클레오파트라|Клеопатра|كليوباترا
nefertiti|娜芙蒂蒂|نفرتيتي
julius caesar|jules césar|凯撒|カエサル
abraham lincoln|lincoln|林肯|リンカーン
elon musk|埃隆·马斯克|马斯克|イーロン・マスク|일론 머스크|Илон Маск|إيلون ماسك|एलन मस्क
barack obama|obama|奥巴马|オバマ|오바마|Обама|أوباما|ओबामा
vladimir putin|putin|poutine|普京|プーチン|푸틴|Путин
donald trump|trump|特朗普|トランプ大統領|트럼프|Трамп|ترامب|ट्रम्प
angela merkel|merkel|默克尔|メルケル|메르켈|Меркель
taylor swift|泰勒·斯威夫特|テイラー・スウィフト|테일러 스위프트
freddie mercury|弗雷迪·墨丘利
michael jackson|迈克尔·杰克逊|マイケル・ジャクソン|마이클 잭슨|Майкл Джексон
marilyn monroe|玛丽莲·梦露|マリリン・モンロー|마릴린 먼로|Мэрилин Монро
elvis presley|elvis|猫王|プレスリー
charlie chaplin|chaplin|卓别林|チャップリン|채플린|Чаплин
lionel messi|messi|梅西|メッシ|메시|Месси|ميسي|मेसी
cristiano ronaldo|ronaldo|罗纳尔多|ロナウド|호날두|Роналду|رونالدو
the beatles|beatles|披头士|ビートルズ|비틀즈|Битлз
édith piaf|edith piaf|艾迪特·皮雅芙
mohamed salah|mo salah|محمد صلاح
om kalthoum|umm kulthum|أم كلثوم
ibn battuta|ابن بطوطة|伊本·白图泰
mahatma gandhi|gandhi|甘地|ガンジー|간디|Ганди|غاندي|गांधी|गाँधी
nehru|नेहरू
sachin tendulkar|tendulkar|सचिन तेंदुलकर|तेंदुलकर
amitabh bachchan|bachchan|अमिताभ बच्चन|बच्चन
shah rukh khan|शाहरुख खान
pushkin|puschkin|pouchkine|Пушкин|普希金
tolstoy|tolstoi|Толстой|托尔斯泰|トルストイ
dostoevsky|dostojewski|dostoïevski|Достоевский|陀思妥耶夫斯基|ドストエフスキー
akhmatova|Ахматова
yuri gagarin|gagarin|Юрий Гагарин|Гагарин|加加林|ガガーリン
baba yaga|Баба-яга|Баба Яга
li bai|李白
du fu|杜甫
su shi|苏轼|苏东坡
confucius|konfuzius|孔子|공자|Конфуций
lu xun|鲁迅
sun wukong|monkey king|孙悟空|孫悟空|손오공
zhu bajie|猪八戒
oda nobunaga|織田信長|信長
tokugawa ieyasu|徳川家康
sejong|세종대왕|세종
yi sun-sin|이순신
pororo|뽀로로
huawei|华为|ファーウェイ|화웨이
samsung|三星电子|サムスン|삼성
apple inc|苹果公司
nike|耐克|ナイキ|나이키
adidas|阿迪达斯|アディダス|아디다스
ikea|宜家|イケア|이케아|ИКЕА
lego|legos|乐高|レゴ|레고|Лего|ليغو
coca-cola|coca cola|可口可乐|コカ・コーラ|코카콜라|Кока-кола|كوكا كولا
mcdonald's|mcdonalds|麦当劳|マクドナルド|맥도날드|Макдоналдс|ماكدونالدز
starbucks|星巴克|スターバックス|스타벅스|Старбакс|ستاربكس
iphone|айфон|آيفون|आईफोन
xbox|playstation
ferrari|法拉利|フェラーリ|페라리|Феррари|فيراري|फेरारी
volkswagen|大众汽车|フォルクスワーゲン
bmw|宝马|ビーエムダブリュー
barbie|芭比|バービー|바비 인형|Барби|باربي
batman|蝙蝠侠|バットマン|배트맨|Бэтмен|باتمان|बैटमैन
superman|スーパーマン|슈퍼맨|Супермен|سوبرمان|सुपरमैन
spider-man|spiderman|spider man|蜘蛛侠|スパイダーマン|스파이더맨|Человек-паук|سبايدرمان|स्पाइडरमैन
iron man|钢铁侠|アイアンマン|아이언맨|Железный человек
wonder woman|神奇女侠
joker|ジョーカー
darth vader|达斯·维达|ダース・ベイダー|다스 베이더|Дарт Вейдер
yoda|尤达|ヨーダ|요다|Йода
gandalf|甘道夫|ガンダルフ|간달프|Гэндальф|غاندالف
frodo|佛罗多|フロド|프로도|Фродо
harry potter|哈利·波特|哈利波特|ハリー・ポッター|해리 포터|Гарри Поттер|هاري بوتر|हैरी पॉटर
hogwarts|霍格沃茨|ホグワーツ|호그와트|Хогвартс
sherlock holmes|夏洛克·福尔摩斯|福尔摩斯|シャーロック・ホームズ|셜록 홈즈|Шерлок Холмс|شيرلوك هولمز
james bond|詹姆斯·邦德|ジェームズ・ボンド
alice in wonderland|爱丽丝梦游仙境|不思議の国のアリス
winnie the pooh|pu der bär|winnie l'ourson|维尼熊|くまのプーさん|곰돌이 푸|Винни-Пух
mickey mouse|micky maus|米老鼠|ミッキーマウス|미키 마우스|Микки Маус|ميكي ماوس|मिकी माउस
pikachu|皮卡丘|ピカチュウ|피카츄|Пикачу|بيكاتشو|पिकाचु
pokemon|pokémon|宝可梦|ポケモン|포켓몬|Покемон
doraemon|哆啦A梦|哆啦a梦|ドラえもん|도라에몽|Дораэмон|डोरेमॉन
nobita|大雄
hello kitty|凯蒂猫|ハローキティ|헬로키티
totoro|龙猫|トトロ|토토로|Тоторо
super mario|mario bros|超级马里奥|マリオ|슈퍼 마리오
sonic the hedgehog|索尼克|ソニック
godzilla|哥斯拉|ゴジラ|고질라|Годзилла|غودزيلا|गॉडज़िला
king kong|金刚|キングコング|킹콩|Кинг-Конг
santa claus|santa|weihnachtsmann|père noël|papá noel|babbo natale|papai noel|圣诞老人|サンタクロース|サンタ|산타클로스
|산타|Дед Мороз|بابا نويل|सांता क्लॉज़
don quijote|don quixote|don quichotte|don chisciotte|dom quixote|堂吉诃德|ドン・キホーテ|돈키호테|Дон Кихот
sancho panza|sancho|桑丘
pinocchio|pinocho|pinóquio|匹诺曹|ピノキオ|피노키오|Пиноккио|Буратино
le petit prince|the little prince|der kleine prinz|el principito|il piccolo principe|小王子|星の王子さま|어린 왕자
|Маленький принц
asterix|astérix
obelix|obélix
d'artagnan
zeus|宙斯|ゼウス|제우스|Зевс
medusa|méduse|美杜莎|メドゥーサ|메두사|Медуза Горгона
shiva|शिव जी|भगवान शिव
ganesha|ganesh|गणेश|ガネーシャ
krishna|कृष्ण
buddha|bouddha|佛陀|ブッダ|부처님|Будда|बुद्ध
fernando pessoa|pessoa
carmen miranda
dante alighieri|dante|但丁|ダンテ|Данте
galileo galilei|galileo|伽利略|ガリレオ
"""

NAMES: tuple[tuple[str, ...], ...] = tuple(
    tuple(line.split("|")) for line in _NAMES.strip().replace("\n|", "|").splitlines()
)
